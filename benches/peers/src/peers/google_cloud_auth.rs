//! google-cloud-auth: the credentials of a user account, because their token endpoint can be set.

use std::sync::Arc;

use async_trait::async_trait;
use google_cloud_auth::credentials::user_account::Builder;
use google_cloud_auth::credentials::{AccessTokenCredentials, CacheableResource, CredentialsProvider as _};
use http::{Extensions, HeaderMap, StatusCode};
use serde_json::json;

use super::shown;
use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink;
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET, Http};

struct Google {
    credentials: AccessTokenCredentials,
    http: Http,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let user = json!({
        "type": "authorized_user",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "refresh_token": "refresh",
    });
    let credentials =
        Builder::new(user).with_token_uri(issuer.token_url()).build_access_token_credentials().expect("good settings");
    Arc::new(Google { credentials, http: wire::http(), api_origin: issuer.api_origin() })
}

async fn headers(credentials: &AccessTokenCredentials) -> Result<HeaderMap, BoxError> {
    match credentials.headers(Extensions::new()).await? {
        CacheableResource::New { data, .. } => Ok(data),
        CacheableResource::NotModified => Err("no headers, although no tag was given".into()),
    }
}

#[async_trait]
impl Peer for Google {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.credentials.access_token().await?.token)
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let (status, _) = wire::send(&self.http, &self.api_origin, headers(&self.credentials).await?).await?;
        Ok(status)
    }

    fn cached(&self, count: usize) -> Cached {
        let (credentials, read_shown) = (self.credentials.clone(), self.credentials.clone());
        let read = Way::new(
            "access_token()",
            || (),
            move |()| now(credentials.access_token()).expect("a token"),
            move || now(read_shown.access_token()).expect("a token").token,
        );
        let (credentials, stamp_shown) = (self.credentials.clone(), self.credentials.clone());
        let origin = self.api_origin.clone();
        let stamped = Way::new(
            "headers()",
            move || wire::things(&origin, count),
            move |mut request| {
                request.headers_mut().extend(now(headers(&credentials)).expect("headers"));
                sink::send(request)
            },
            move || shown(&now(headers(&stamp_shown)).expect("headers")),
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
