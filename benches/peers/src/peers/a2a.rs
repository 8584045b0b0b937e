//! a2a-protocol-client: `OAuth2ClientCredentials` behind its `BearerAuthInterceptor`.

use std::sync::Arc;

use a2a_protocol_client::error::ClientError;
use a2a_protocol_client::interceptor::{CallInterceptor as _, ClientRequest};
use a2a_protocol_client::token_provider::{BearerAuthInterceptor, OAuth2ClientCredentials, TokenProvider};
use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET, Http};

struct A2a {
    provider: Arc<OAuth2ClientCredentials>,
    http: Http,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let provider = OAuth2ClientCredentials::new(issuer.token_url(), CLIENT_ID, CLIENT_SECRET);
    Arc::new(A2a { provider: Arc::new(provider), http: wire::http(), api_origin: issuer.api_origin() })
}

fn call(headers: usize) -> ClientRequest {
    let mut request = ClientRequest::new("tasks/get", serde_json::Value::Null);
    request
        .extra_headers
        .extend(wire::HEADERS[..headers].iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    request
}

impl A2a {
    fn interceptor(&self) -> BearerAuthInterceptor {
        BearerAuthInterceptor::new(Arc::clone(&self.provider) as Arc<dyn TokenProvider>)
    }
}

#[async_trait]
impl Peer for A2a {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.provider.access_token().await?)
    }

    /// Reports the rejection to the interceptor, as the client of the crate does. The interceptor replays nothing, so the replay
    /// is a second call.
    async fn send(&self) -> Result<StatusCode, BoxError> {
        let interceptor = self.interceptor();
        let mut sends = 0;
        loop {
            let mut request = call(wire::FEW_HEADERS);
            interceptor.before(&mut request).await?;
            let header = request.extra_headers["authorization"].parse()?;
            let stamp = HeaderMap::from_iter([(AUTHORIZATION, header)]);
            let (status, _) = wire::send(&self.http, &self.api_origin, stamp).await?;
            sends += 1;
            if status != StatusCode::UNAUTHORIZED || sends == 2 {
                return Ok(status);
            }
            let rejection =
                ClientError::UnexpectedStatus { status: status.as_u16(), body: String::new(), retry_after: None };
            interceptor.on_error(&request, &rejection).await;
        }
    }

    fn cached(&self, headers: usize) -> Cached {
        let (provider, read_shown) = (Arc::clone(&self.provider), Arc::clone(&self.provider));
        let read = Way::new(
            "access_token()",
            || (),
            move |()| now(provider.access_token()).expect("a token"),
            move || now(read_shown.access_token()).expect("a token"),
        );
        let (interceptor, stamp_shown) = (self.interceptor(), self.interceptor());
        let stamped = Way::new(
            "interceptor",
            move || call(headers),
            move |mut request| {
                now(interceptor.before(&mut request)).expect("a token");
                request
            },
            move || {
                let mut request = call(headers);
                now(stamp_shown.before(&mut request)).expect("a token");
                request.extra_headers["authorization"].clone()
            },
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
