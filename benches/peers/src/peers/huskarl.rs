//! huskarl: an `HttpAuthorizer` with an `InMemoryTokenCache` and a client credentials grant over huskarl-reqwest, as in its example
//! `cached_client`.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, StatusCode, Uri};
use huskarl::authorizer::{HttpAuthorizer, parse_challenges};
use huskarl::cache::{GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache};
use huskarl::core::OAuthErrorCode;
use huskarl::core::client_auth::ClientSecret;
use huskarl::core::secrets::{ProvidedSecret, SecretString};
use huskarl::grant::client_credentials::{ClientCredentialsGrant, ClientCredentialsGrantParameters};
use huskarl::token::AccessToken;
use huskarl_reqwest::ReqwestClient;

use super::shown;
use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::sink;
use crate::wire::{self, BoxError, CLIENT_ID, CLIENT_SECRET, Http};

struct Huskarl {
    authorizer: Arc<HttpAuthorizer>,
    http: Http,
    api_origin: String,
    uri: Uri,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let requests = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let grant = ClientCredentialsGrant::builder()
        .client_id(CLIENT_ID)
        .http_client(ReqwestClient::from(requests))
        .client_auth(ClientSecret::new(ProvidedSecret::new(SecretString::new(CLIENT_SECRET))))
        .token_endpoint(issuer.token_url().parse().expect("a URL"))
        .build();
    let source = GrantTokenSource::builder()
        .grant(grant)
        .grant_parameters(ClientCredentialsGrantParameters::builder().build())
        .refresh_store(InMemoryRefreshTokenStore::default())
        .build();
    let cache = InMemoryTokenCache::builder().source(source).build();
    let authorizer = Arc::new(HttpAuthorizer::builder().cache(cache).build());
    let uri = format!("{}/things", issuer.api_origin()).parse().expect("a URI");
    Arc::new(Huskarl { authorizer, http: wire::http(), api_origin: issuer.api_origin(), uri })
}

async fn token(authorizer: &HttpAuthorizer) -> Result<String, BoxError> {
    match authorizer.cache().token().await?.access_token() {
        AccessToken::Bearer(token) => Ok(token.expose_token().to_owned()),
        _ => Err("another kind of token".into()),
    }
}

#[async_trait]
impl Peer for Huskarl {
    async fn token(&self) -> Result<String, BoxError> {
        token(&self.authorizer).await
    }

    /// The loop of its example: the authorizer gets each response, and a request with an invalid token is replayed once.
    async fn send(&self) -> Result<StatusCode, BoxError> {
        let mut sends = 0;
        loop {
            let headers = self.authorizer.get_headers(&Method::GET, &self.uri).await?;
            let (status, response) = wire::send(&self.http, &self.api_origin, headers).await?;
            self.authorizer.process_response(&self.uri, &response);
            sends += 1;
            let is_rejected = status == StatusCode::UNAUTHORIZED
                && parse_challenges(&response)
                    .iter()
                    .any(|challenge| challenge.error() == Some(OAuthErrorCode::InvalidToken));
            if !is_rejected || sends == 2 {
                return Ok(status);
            }
        }
    }

    fn cached(&self, headers: usize) -> Cached {
        let (authorizer, read_shown) = (Arc::clone(&self.authorizer), Arc::clone(&self.authorizer));
        let read = Way::new(
            "cache().token()",
            || (),
            move |()| now(authorizer.cache().token()).expect("a token"),
            move || now(token(&read_shown)).expect("a token"),
        );
        let (authorizer, stamp_shown) = (Arc::clone(&self.authorizer), Arc::clone(&self.authorizer));
        let (origin, uri) = (self.api_origin.clone(), self.uri.clone());
        let stamped = Way::new(
            "get_headers()",
            move || wire::things(&origin, headers),
            move |mut request| {
                let headers = now(authorizer.get_headers(request.method(), request.uri())).expect("headers");
                request.headers_mut().extend(headers);
                sink::send(request)
            },
            move || shown(&now(stamp_shown.get_headers(&Method::GET, &uri)).expect("headers")),
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
