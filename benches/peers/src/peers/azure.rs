//! azure_core: `BearerTokenAuthorizationPolicy` over a credential without a cache. It needs an `OnChallenge` to replay a rejected
//! request.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, Headers};
use azure_core::http::policies::auth::{Authorizer, BearerTokenAuthorizationPolicy, OnChallenge};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, ClientMethodOptions, Context, Method, Request};
use azure_core::time::{Duration, OffsetDateTime};
use http::{HeaderMap, StatusCode};

use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::wire::{self, BoxError, Http};

const SCOPE: &str = "scope";

#[derive(Debug)]
struct Credential {
    http: Http,
    token_url: String,
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let minted = wire::fetch(&self.http, &self.token_url)
            .await
            .map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let lives = Duration::try_from(minted.lives).expect("some hours");
        Ok(AccessToken::new(minted.token, OffsetDateTime::now_utc() + lives))
    }
}

/// Requests a new token. The policy has removed the rejected one.
#[derive(Debug)]
struct Reauthorize;

#[async_trait]
impl OnChallenge for Reauthorize {
    async fn on_challenge(
        &self,
        context: &Context,
        request: &mut Request,
        authorizer: &dyn Authorizer,
        _: &Headers,
    ) -> azure_core::Result<()> {
        let options = TokenRequestOptions { method_options: ClientMethodOptions { context: context.clone() } };
        authorizer.authorize(request, &[SCOPE], options).await
    }
}

/// The end of the pipeline. The policy needs https requests, and the API here serves http.
#[derive(Debug)]
struct ToApi {
    http: Http,
    api_origin: String,
}

#[async_trait]
impl Policy for ToApi {
    async fn send(&self, _: &Context, request: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let stamp = request.headers().get_str(&AUTHORIZATION)?.parse().expect("a header");
        let stamp = HeaderMap::from_iter([(http::header::AUTHORIZATION, stamp)]);
        let (status, response) = wire::send(&self.http, &self.api_origin, stamp)
            .await
            .map_err(|error| azure_core::Error::new(ErrorKind::Io, error))?;
        let mut headers = Headers::new();
        if let Some(challenge) = response.get(http::header::WWW_AUTHENTICATE) {
            headers.insert("www-authenticate", challenge.to_str().expect("text").to_owned());
        }
        Ok(AsyncRawResponse::from_bytes(status.as_u16().into(), headers, bytes::Bytes::new()))
    }
}

/// The end of a measured pipeline. It sends nothing.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Policy for Nowhere {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let status = azure_core::http::StatusCode::Ok;
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), bytes::Bytes::new()))
    }
}

struct Azure {
    policy: BearerTokenAuthorizationPolicy,
    api: [Arc<dyn Policy>; 1],
    nowhere: [Arc<dyn Policy>; 1],
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let http = wire::http();
    let credential = Credential { http: http.clone(), token_url: issuer.token_url() };
    Arc::new(Azure {
        policy: BearerTokenAuthorizationPolicy::new(Arc::new(credential), [SCOPE])
            .with_on_challenge(Arc::new(Reauthorize)),
        api: [Arc::new(ToApi { http, api_origin: issuer.api_origin() })],
        nowhere: [Arc::new(Nowhere)],
    })
}

fn request(headers: usize) -> Request {
    let mut request = Request::new("https://api.example.com/things".parse().expect("a URL"), Method::Get);
    for (name, value) in &wire::HEADERS[..headers] {
        // A string, as in the requests of the other crates. A static value would cost nothing to drop.
        request.insert_header(*name, (*value).to_owned());
    }
    request
}

#[async_trait]
impl Peer for Azure {
    /// The policy does not return the token, so it is read from the request.
    async fn token(&self) -> Result<String, BoxError> {
        let mut request = request(wire::FEW_HEADERS);
        self.policy.send(&Context::default(), &mut request, &self.nowhere).await?;
        let stamp = request.headers().get_str(&AUTHORIZATION)?;
        Ok(stamp.strip_prefix("Bearer ").ok_or("another scheme")?.to_owned())
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let response = self.policy.send(&Context::default(), &mut request(wire::FEW_HEADERS), &self.api).await?;
        Ok(StatusCode::from_u16(response.status().into())?)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (policy, shown) = (self.policy.clone(), self.policy.clone());
        let (nowhere, shown_nowhere) = (self.nowhere.clone(), self.nowhere.clone());
        let context = Context::default();
        let stamped = Way::new(
            "policy",
            move || request(headers),
            move |mut request| {
                now(policy.send(&context, &mut request, &nowhere)).expect("a response");
                request
            },
            move || {
                let mut request = request(headers);
                now(shown.send(&Context::default(), &mut request, &shown_nowhere)).expect("a response");
                request.headers().get_str(&AUTHORIZATION).expect("a stamp").to_owned()
            },
        );
        Cached { read: None, stamped: vec![stamped] }
    }
}
