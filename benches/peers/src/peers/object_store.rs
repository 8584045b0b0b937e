//! object_store: the token cache of its store for Azure, with a client secret. The store itself is not used.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use http::header::AUTHORIZATION;
use object_store::azure::{AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder};

use super::{by_hand, shown, stamp};
use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink;
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET, Http};

struct ObjectStore {
    credentials: AzureCredentialProvider,
    http: Http,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let store = MicrosoftAzureBuilder::new()
        .with_account("account")
        .with_container_name("container")
        .with_client_secret_authorization(CLIENT_ID, CLIENT_SECRET, "tenant")
        .with_authority_host(issuer.api_origin())
        .with_allow_http(true)
        .build()
        .expect("good settings");
    let credentials = Arc::clone(store.credentials());
    Arc::new(ObjectStore { credentials, http: wire::http(), api_origin: issuer.api_origin() })
}

fn token(credential: &AzureCredential) -> &str {
    match credential {
        AzureCredential::BearerToken(token) => token,
        _ => panic!("another kind of credential"),
    }
}

#[async_trait]
impl Peer for ObjectStore {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(token(&*self.credentials.get_credential().await?).to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let headers = stamp(token(&*self.credentials.get_credential().await?));
        Ok(wire::send(&self.http, &self.api_origin, headers).await?.0)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (credentials, read_shown) = (Arc::clone(&self.credentials), Arc::clone(&self.credentials));
        let read = Way::new(
            "get_credential()",
            || (),
            move |()| now(credentials.get_credential()).expect("a token"),
            move || token(&now(read_shown.get_credential()).expect("a token")).to_owned(),
        );
        let (credentials, stamp_shown) = (Arc::clone(&self.credentials), Arc::clone(&self.credentials));
        let origin = self.api_origin.clone();
        let stamped = Way::new(
            "get_credential(), by hand",
            move || wire::things(&origin, headers),
            move |mut request| {
                let credential = now(credentials.get_credential()).expect("a token");
                request.headers_mut().insert(AUTHORIZATION, by_hand(token(&credential)));
                sink::send(request)
            },
            move || shown(&stamp(token(&now(stamp_shown.get_credential()).expect("a token")))),
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
