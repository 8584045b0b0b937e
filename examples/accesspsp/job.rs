//! The load: 64 tasks, a thousand sessions, two expired tokens, one revocation, one sale.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tower::{Service, ServiceExt};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{
    AccessPsp, BearerAuthLayer, BoxError, FetchContext, OnForeignOrigin, TokenProvider, TokenSource,
};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use crate::progress;
use crate::stack::{self, Added};
use crate::verdict::Verdict;

pub(crate) const SESSIONS: usize = 1000;
const TASKS: usize = 64;
const LIFETIME: Duration = Duration::from_secs(2);
/// The time between two sessions of one task. With it the job takes a few token lifetimes.
const PACE: Duration = Duration::from_millis(350);
/// How many requests are held at the API when the tokens are revoked.
const HELD: usize = 32;

/// A deliberate error, which the checks must find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    LoseSession,
    DoubleSession,
    NoExpiry,
    NoRejection,
    TokenStorm,
}

impl Break {
    pub(crate) fn parse(text: &str) -> Result<Self, BoxError> {
        Ok(match text {
            "lose-session" => Self::LoseSession,
            "double-session" => Self::DoubleSession,
            "no-expiry" => Self::NoExpiry,
            "no-rejection" => Self::NoRejection,
            "token-storm" => Self::TokenStorm,
            _ => {
                return Err("--break takes lose-session, double-session, no-expiry, no-rejection or token-storm".into());
            }
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement outside of the crate")]
pub(crate) async fn run(broken: Option<Break>) -> Result<Verdict, BoxError> {
    let lifetime = if broken == Some(Break::NoExpiry) { Duration::from_secs(1800) } else { LIFETIME };
    let sandbox = Arc::new(
        AccessPspSandbox::builder().token_lifetime(lifetime).latency(Duration::from_millis(50)).start().await?,
    );
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .api_key(sandbox.api_key())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    // A request to a wrong host is an error. Without this setting, it would be sent without a token.
    let layer = BearerAuthLayer::new(provider).on_foreign_origin(OnForeignOrigin::Fail);
    let added = Added::default();
    let client = stack::with_token(stack::https_client(Some(sandbox.ca_pem()))?, &layer, &added);

    println!("issuer {}, Wallet API {}", sandbox.issuer_origin(), sandbox.api_origin());
    let start = Instant::now();
    let progress = tokio::spawn(progress::show(Arc::clone(&sandbox)));
    let next = Arc::new(AtomicUsize::new(0));
    let revoker = tokio::spawn(revoke_held(Arc::clone(&sandbox), broken));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (client, api, next) = (client.clone(), sandbox.api_origin(), Arc::clone(&next));
        tasks.spawn(open_sessions(client, api, next, layer.source().clone(), broken));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    // If it revoked no token, the verdict reports it.
    revoker.abort();
    sell(client, &sandbox.api_origin()).await?;
    progress.abort();
    // Waits until the bar is removed.
    let _ = progress.await;

    let time = start.elapsed();
    Ok(Verdict::of(&sandbox, &layer.source().stats(), added.percentiles(), lifetime, time))
}

async fn open_sessions<S>(
    mut client: S,
    api: String,
    next: Arc<AtomicUsize>,
    source: TokenSource<AccessPsp>,
    broken: Option<Break>,
) -> Result<(), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
{
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let times = match broken {
            _ if number >= SESSIONS => return Ok(()),
            Some(Break::LoseSession) if number == 7 => 0,
            Some(Break::DoubleSession) if number == 7 => 2,
            _ => 1,
        };
        if broken == Some(Break::TokenStorm) && number.is_multiple_of(20) {
            // Past the cache.
            drop(source.provider().fetch(&(), &FetchContext::default()).await?);
        }
        for _ in 0..times {
            let request = Request::post(format!("{api}/wallets/wsps/sessions"))
                .header("content-type", "application/json")
                .body(Full::from(format!(r#"{{"reference":"session {number}"}}"#)))?;
            expect(StatusCode::CREATED, client.ready().await?.call(request).await?).await?;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Holds requests at the API until enough have arrived, revokes their token, and releases them.
async fn revoke_held(sandbox: Arc<AccessPspSandbox>, broken: Option<Break>) {
    // With `TokenStorm`, the newest token is in no request.
    if matches!(broken, Some(Break::NoRejection | Break::TokenStorm)) {
        return;
    }
    sandbox.wait_api_requests(SESSIONS / 2).await;
    // Wait until all tasks use the same token. A request is replayed once, so it recovers from one revoked token only.
    loop {
        sandbox.hold_issuer();
        if one_token_in_use(&sandbox) {
            break;
        }
        sandbox.release_issuer();
        sandbox.wait_api_requests(sandbox.api_request_count() + 1).await;
    }
    sandbox.hold();
    sandbox.wait_held(HELD).await;
    sandbox.revoke_all();
    sandbox.release();
    sandbox.release_issuer();
}

/// Whether every task uses the newest token, and no request or token request with another one is pending.
fn one_token_in_use(sandbox: &AccessPspSandbox) -> bool {
    let newest = sandbox.tokens().last().map(|token| token.jti.clone());
    let requests = sandbox.api_requests();
    let with_newest = requests.iter().filter(|request| request.jti == newest).count();
    let pending = requests.iter().any(|request| request.status.is_none() && request.jti != newest);
    with_newest >= TASKS && !pending && sandbox.token_requests().iter().all(|request| request.status.is_some())
}

async fn sell<S>(mut client: S, api: &str) -> Result<(), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
{
    let random = |bits: u32| fastrand::u64(..) >> (64 - bits);
    let key =
        format!("{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", random(32), random(16), random(12), random(12), random(48));
    let request = Request::post(format!("{api}/uc/v1/wallet/sale"))
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Full::from(r#"{"amount":1250,"currency":"EUR"}"#))?;
    expect(StatusCode::OK, client.ready().await?.call(request).await?).await
}

pub(crate) async fn expect(status: StatusCode, response: Response<Incoming>) -> Result<(), BoxError> {
    let actual = response.status();
    response.into_body().collect().await?;
    if actual == status { Ok(()) } else { Err(format!("the API responded with {actual}, not with {status}").into()) }
}
