//! aws-smithy-runtime: its lazy identity cache over an identity resolver, and its bearer auth scheme, without the orchestrator.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::auth::http::BearerAuthScheme;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::http::HTTP_BEARER_AUTH_SCHEME_ID;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{AuthScheme as _, AuthSchemeEndpointConfig};
use aws_smithy_runtime_api::client::identity::http::Token;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity as _, ResolveIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http::StatusCode;

use super::stamp;
use crate::batch::{Way, now};
use crate::issuer::Issuer;
use crate::peer::{Cached, Peer};
use crate::wire::{self, BoxError, Http};

#[derive(Debug)]
struct Resolver {
    http: Http,
    token_url: String,
}

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let minted = wire::fetch(&self.http, &self.token_url).await?;
            let expires = SystemTime::now() + minted.lives;
            Ok(Identity::new(Token::new(minted.token, Some(expires)), Some(expires)))
        })
    }
}

/// The components that an SDK uses for each operation.
struct Client {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    scheme: BearerAuthScheme,
    config: ConfigBag,
}

impl Client {
    async fn identity(&self) -> Result<Identity, BoxError> {
        self.cache.resolve_cached_identity(self.resolver.clone(), &self.components, &self.config).await
    }

    async fn sign(&self, request: &mut HttpRequest) -> Result<(), BoxError> {
        let identity = self.identity().await?;
        let endpoint = AuthSchemeEndpointConfig::empty();
        self.scheme.signer().sign_http_request(request, &identity, endpoint, &self.components, &self.config)
    }
}

struct Aws {
    client: Arc<Client>,
    http: Http,
    api_origin: String,
}

pub fn build(issuer: &Issuer) -> Arc<dyn Peer> {
    let http = wire::http();
    let resolver = SharedIdentityResolver::new(Resolver { http: http.clone(), token_url: issuer.token_url() });
    let cache = IdentityCache::lazy().build();
    let components = RuntimeComponents::builder("peers")
        .with_auth_scheme(BearerAuthScheme::new())
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![HTTP_BEARER_AUTH_SCHEME_ID])))
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::uri(issuer.api_origin())))
        .with_identity_cache(Some(cache.clone()))
        .with_identity_resolver(HTTP_BEARER_AUTH_SCHEME_ID, resolver.clone())
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .with_sleep_impl(Some(TokioSleep::new()))
        .with_time_source(Some(SystemTimeSource::new()))
        .build()
        .expect("every component");
    let client = Client { cache, resolver, components, scheme: BearerAuthScheme::new(), config: ConfigBag::base() };
    Arc::new(Aws { client: Arc::new(client), http, api_origin: issuer.api_origin() })
}

fn token(identity: &Identity) -> String {
    identity.data::<Token>().expect("a token").token().to_owned()
}

fn request(headers: usize) -> HttpRequest {
    wire::things("https://api.example.com", headers).map(|_| SdkBody::empty()).try_into().expect("a request")
}

#[async_trait]
impl Peer for Aws {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(token(&self.client.identity().await?))
    }

    async fn send(&self) -> Result<StatusCode, BoxError> {
        let headers = stamp(&self.token().await?);
        Ok(wire::send(&self.http, &self.api_origin, headers).await?.0)
    }

    fn cached(&self, headers: usize) -> Cached {
        let (client, read_shown) = (Arc::clone(&self.client), Arc::clone(&self.client));
        let read = Way::new(
            "resolve_cached_identity()",
            || (),
            move |()| now(client.identity()).expect("an identity"),
            move || token(&now(read_shown.identity()).expect("an identity")),
        );
        let (client, stamp_shown) = (Arc::clone(&self.client), Arc::clone(&self.client));
        let stamped = Way::new(
            "bearer scheme",
            move || request(headers),
            move |mut request| {
                now(client.sign(&mut request)).expect("a stamp");
                request
            },
            move || {
                let mut request = request(headers);
                now(stamp_shown.sign(&mut request)).expect("a stamp");
                request.headers().get("authorization").expect("a stamp").to_owned()
            },
        );
        Cached { read: Some(read), stamped: vec![stamped] }
    }
}
