//! Whatever happens, a request carries its own identity's token.
#![cfg(feature = "aeropay")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Ready, ready};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::LocalSet;
use tower::{Layer as _, Service};
use tower_bearer_auth::aeropay::{self, ApiVersion, Credentials, Environment, Identity, MerchantId, UserId};
use tower_bearer_auth::{Aeropay, TokenSource, replay};

const REQUESTS: usize = 1_000_000;
const MERCHANTS: u64 = 5;
/// Beside the merchant itself; the same ids at every merchant.
const USERS: u64 = 39;
const TASKS: usize = 48;

/// As whom a request goes, as its sender means it.
#[derive(Debug)]
struct Meant {
    merchant: MerchantId,
    user: Option<UserId>,
    identity: Identity,
    /// What the issuer puts in front of the tokens of this identity.
    mark: String,
}

/// All 200, by the order in which they are drawn.
fn everybody() -> Vec<Arc<Meant>> {
    let one = |merchant: u64, user: Option<u64>| {
        let identity = user.map_or_else(Identity::merchant, Identity::user).at(merchant);
        let mark = user.map_or_else(|| format!("m{merchant}-merchant."), |user| format!("m{merchant}-u{user}."));
        Arc::new(Meant { merchant: MerchantId::from(merchant), user: user.map(UserId::from), identity, mark })
    };
    let users = || std::iter::once(None).chain((0..USERS).map(Some));
    (0..MERCHANTS).flat_map(|merchant| users().map(move |user| one(merchant, user))).collect()
}

/// Hands out tokens that say whose they are, late, or fails in one way or another.
#[derive(Clone)]
struct Issuer {
    rng: Arc<Mutex<Rng>>,
    minted: Arc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Issuer {
    type Response = Response<Full<Bytes>>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let mut rng = self.rng.lock().fork();
        let minted = Arc::clone(&self.minted);
        async move {
            let asked: Value =
                serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
            tokio::time::sleep(Duration::from_millis(rng.u64(0..40))).await;
            let text = |name: &str| asked[name].as_str().unwrap();
            // The credentials of one merchant are of no use to another.
            assert_eq!(text("api_key"), format!("key-{}", text("id")));
            let answer = |status: u16, body: String| {
                let length = HeaderValue::from(body.len());
                let mut response = Response::new(Full::from(body));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert(CONTENT_LENGTH, length);
                Ok(response)
            };
            match rng.u32(0..100) {
                0..5 => answer(503, String::new()),
                5..7 => answer(200, r#"{"success": false, "error": {"code": "AP002", "message": "x"}}"#.into()),
                7..9 => Err(std::io::Error::other("torn")),
                // A panic that prints nothing.
                9..10 => std::panic::resume_unwind(Box::new("a bug in the client")),
                10..11 => std::future::pending().await,
                _ => {
                    let whose = match text("scope") {
                        "merchant" => "merchant".to_owned(),
                        _ => format!("u{}", text("userId")),
                    };
                    let nth = minted.fetch_add(1, Ordering::SeqCst);
                    let ttl = [2, 30, 600, 1800][rng.usize(0..4)];
                    answer(200, format!(r#"{{"TTL": {ttl}, "token": "m{}-{whose}.{nth}"}}"#, text("id")))
                }
            }
        }
        .boxed()
    }
}

/// Looks at every token, and refuses some.
#[derive(Clone)]
struct Api {
    rng: Rc<Mutex<Rng>>,
    arrived: Rc<AtomicUsize>,
    refused: Rc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let meant = request.extensions().get::<Arc<Meant>>().unwrap();
        let mut values = request.headers().get_all("authorizationtoken").iter();
        let token = values.next().unwrap().to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert!(values.next().is_none());
        assert!(token.starts_with(&meant.mark), "{meant:?} went as {token}");
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let refusal = match self.rng.lock().u32(0..1000) {
            0..2 => (200, r#"{"success": false, "code": "AP007", "error": "Token has expired"}"#),
            2..4 => (401, r#"{"success": false, "code": "AP101", "error": "No Authenticated User"}"#),
            _ => return ready(Ok(Response::default())),
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Full::from(refusal.1));
        *response.status_mut() = StatusCode::from_u16(refusal.0).unwrap();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(refusal.1.len()));
        ready(Ok(response))
    }
}

#[derive(Debug, Default)]
struct Seen {
    arrived: usize,
    refused: usize,
    failed: usize,
    dropped: usize,
    minted: usize,
}

/// One source, 200 identities, and tasks that ask for them in any order until enough requests have arrived.
async fn crowd(seed: u64, enough: usize) -> Seen {
    let mut rng = Rng::with_seed(seed);
    let issuer = Issuer { rng: Arc::new(Mutex::new(rng.fork())), minted: Arc::default() };
    let minted = Arc::clone(&issuer.minted);
    let provider = Aeropay::builder()
        .api_version(ApiVersion::V1)
        .environment(Environment::Sandbox)
        .credentials_for(|merchant| Ok(Credentials::new(format!("key-{merchant}"), "secret")))
        .http_client(tower_bearer_auth::token_endpoint::TokenClient::new(issuer))
        .build()
        .unwrap();
    let source = TokenSource::builder(provider).jitter_seed(seed).max_keys(195).build();
    let api = Api { rng: Rc::new(Mutex::new(rng.fork())), arrived: Rc::default(), refused: Rc::default() };
    let (failed, dropped) = (Rc::new(AtomicUsize::new(0)), Rc::new(AtomicUsize::new(0)));
    let service = aeropay::layer(source.layer().bodies(replay::Cloned)).layer(api.clone());
    let (everybody, somebody) = (Rc::new(everybody()), UserId::from(7));
    assert_eq!(everybody.len(), 200);
    let tasks = LocalSet::new();
    for _ in 0..TASKS {
        let (mut rng, mut service, source) = (rng.fork(), service.clone(), source.clone());
        let (everybody, somebody) = (Rc::clone(&everybody), somebody.clone());
        let (arrived, failed, dropped) = (Rc::clone(&api.arrived), Rc::clone(&failed), Rc::clone(&dropped));
        tasks.spawn_local(async move {
            while arrived.load(Ordering::Relaxed) < enough {
                let meant = &everybody[rng.usize(0..everybody.len())];
                let mut request = Request::new(Full::default());
                *request.uri_mut() = http::Uri::from_static("/user");
                *request.method_mut() = if meant.user.is_some() { http::Method::GET } else { http::Method::POST };
                // A merchant's request may name a user, too, and still goes as the merchant.
                request.extensions_mut().insert(meant.user.as_ref().unwrap_or(&somebody).clone());
                request.extensions_mut().insert(meant.merchant.clone());
                request.extensions_mut().insert(Arc::clone(meant));
                let mut call = pin!(service.call(request));
                let outcome = match rng.u32(0..16) {
                    // Dropped after one poll, or while it waits.
                    0 => match poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                        Poll::Ready(outcome) => Some(outcome),
                        Poll::Pending => None,
                    },
                    1 => tokio::time::timeout(Duration::from_millis(rng.u64(0..30)), call).await.ok(),
                    _ => Some(call.await),
                };
                match outcome {
                    None => dropped.fetch_add(1, Ordering::Relaxed),
                    Some(Err(_)) => failed.fetch_add(1, Ordering::Relaxed),
                    Some(Ok(_)) => 0,
                };
                match rng.u32(0..4096) {
                    0 if rng.u32(0..20) == 0 => source.rotate(),
                    1..9 => source.invalidate_for(&meant.identity),
                    16..80 => tokio::time::sleep(Duration::from_millis(rng.u64(0..2000))).await,
                    80..200 => tokio::task::yield_now().await,
                    _ => {}
                }
            }
        });
    }
    tasks.await;
    let stats = source.stats();
    assert_eq!(
        stats.waits,
        stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting,
        "{stats:?}"
    );
    Seen {
        arrived: api.arrived.load(Ordering::Relaxed),
        refused: api.refused.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
        dropped: dropped.load(Ordering::Relaxed),
        minted: minted.load(Ordering::SeqCst),
    }
}

// R30. Two crowds, each in a virtual time of its own: together a million requests.
#[test]
fn a_million_requests_of_200_identities_each_carry_their_own_token() {
    // The panics of the issuer's client are part of it; the panics of a check are not.
    let crowds: Vec<_> = [1, 2]
        .map(|seed| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                runtime.unwrap().block_on(crowd(seed, REQUESTS / 2))
            })
        })
        .into_iter()
        .map(|crowd| crowd.join().unwrap())
        .collect();
    let total = |of: fn(&Seen) -> usize| crowds.iter().map(of).sum::<usize>();
    println!("{crowds:?}");
    assert!(total(|seen| seen.arrived) >= REQUESTS);
    // All that was to happen did.
    for seen in &crowds {
        assert!(seen.refused > 500 && seen.failed > 500 && seen.dropped > 500 && seen.minted > 2000, "{seen:?}");
    }
}
