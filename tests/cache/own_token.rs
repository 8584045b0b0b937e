//! Every request carries the token of its own identity.

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
use futures::future::{Ready, ready};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::LocalSet;
use tower::{Layer as _, Service, service_fn};
use tower_bearer_auth::aeropay::{self, ApiVersion, Credentials, Environment, Identity, MerchantId, UserId};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{Aeropay, TokenSource, replay};

use crate::support::responses::response_with;

const REQUESTS: usize = 1_000_000;
const MERCHANTS: u64 = 5;
/// In addition to the merchant itself. Every merchant has the same user ids.
const USERS: u64 = 39;
const TASKS: usize = 48;

/// The identity that a request must act as.
#[derive(Debug)]
struct Sender {
    merchant: MerchantId,
    user: Option<UserId>,
    identity: Identity,
    /// The prefix of the tokens that the issuer returns for this identity.
    mark: String,
}

/// All 200 identities.
fn senders() -> Vec<Arc<Sender>> {
    let one = |merchant: u64, user: Option<u64>| {
        let identity = user.map_or_else(Identity::merchant, Identity::user).at(merchant);
        let mark = user.map_or_else(|| format!("m{merchant}-merchant."), |user| format!("m{merchant}-u{user}."));
        Arc::new(Sender { merchant: MerchantId::from(merchant), user: user.map(UserId::from), identity, mark })
    };
    let users = || std::iter::once(None).chain((0..USERS).map(Some));
    (0..MERCHANTS).flat_map(|merchant| users().map(move |user| one(merchant, user))).collect()
}

/// Returns tokens whose prefix names their owner, after a random delay, or fails.
async fn token_response(
    request: Request<Bytes>,
    mut rng: Rng,
    minted: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    tokio::time::sleep(Duration::from_millis(rng.u64(0..40))).await;
    let text = |name: &str| body[name].as_str().unwrap();
    // The request has the credentials of its own merchant.
    assert_eq!(text("api_key"), format!("key-{}", text("id")));
    match rng.u32(0..100) {
        0..5 => Ok(with_length(503, "")),
        5..7 => Ok(with_length(200, r#"{"success": false, "error": {"code": "AP002", "message": "x"}}"#)),
        7..9 => Err(std::io::Error::other("torn")),
        // `resume_unwind` prints no message.
        9..10 => std::panic::resume_unwind(Box::new("a bug in the client")),
        10..11 => std::future::pending().await,
        _ => {
            let owner = match text("scope") {
                "merchant" => "merchant".to_owned(),
                _ => format!("u{}", text("userId")),
            };
            let nth = minted.fetch_add(1, Ordering::SeqCst);
            let ttl = [2, 30, 600, 1800][rng.usize(0..4)];
            Ok(with_length(200, format!(r#"{{"TTL": {ttl}, "token": "m{}-{owner}.{nth}"}}"#, text("id"))))
        }
    }
}

fn with_length(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut response = response_with(StatusCode::from_u16(status).unwrap(), body);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// Checks every token, and rejects some.
#[derive(Clone)]
struct Api {
    rng: Rc<Mutex<Rng>>,
    arrived: Rc<AtomicUsize>,
    rejected: Rc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let sender = request.extensions().get::<Arc<Sender>>().unwrap();
        let mut values = request.headers().get_all("authorizationtoken").iter();
        let token = values.next().unwrap().to_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert!(values.next().is_none());
        assert!(token.starts_with(&sender.mark), "{sender:?} was sent with {token}");
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let rejection = match self.rng.lock().u32(0..1000) {
            0..2 => (200, r#"{"success": false, "code": "AP007", "error": "Token has expired"}"#),
            2..4 => (401, r#"{"success": false, "code": "AP101", "error": "No Authenticated User"}"#),
            _ => return ready(Ok(Response::default())),
        };
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let mut response = with_length(rejection.0, rejection.1);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}

#[derive(Debug, Default)]
struct Counts {
    arrived: usize,
    rejected: usize,
    failed: usize,
    dropped: usize,
    minted: usize,
}

/// One source, 200 identities, and tasks that send requests in random order until enough have arrived.
async fn run(seed: u64, enough: usize) -> Counts {
    let mut rng = Rng::with_seed(seed);
    let minted = Arc::new(AtomicUsize::new(0));
    let issuer = {
        let (rng, minted) = (Arc::new(Mutex::new(rng.fork())), Arc::clone(&minted));
        service_fn(move |request| token_response(request, rng.lock().fork(), Arc::clone(&minted)))
    };
    let provider = Aeropay::builder()
        .api_version(ApiVersion::V1)
        .environment(Environment::Sandbox)
        .credentials_for(|merchant| Ok(Credentials::new(format!("key-{merchant}"), "secret")))
        .http_client(TokenClient::new(issuer))
        .build()
        .unwrap();
    let source = TokenSource::builder(provider).jitter_seed(seed).max_keys(195).build();
    let api = Api { rng: Rc::new(Mutex::new(rng.fork())), arrived: Rc::default(), rejected: Rc::default() };
    let (failed, dropped) = (Rc::new(AtomicUsize::new(0)), Rc::new(AtomicUsize::new(0)));
    let service = aeropay::layer(source.layer().bodies(replay::Cloned)).layer(api.clone());
    let (senders, other_user) = (Rc::new(senders()), UserId::from(7));
    assert_eq!(senders.len(), 200);
    let tasks = LocalSet::new();
    for _ in 0..TASKS {
        let (mut rng, mut service, source) = (rng.fork(), service.clone(), source.clone());
        let (senders, other_user) = (Rc::clone(&senders), other_user.clone());
        let (arrived, failed, dropped) = (Rc::clone(&api.arrived), Rc::clone(&failed), Rc::clone(&dropped));
        tasks.spawn_local(async move {
            while arrived.load(Ordering::Relaxed) < enough {
                let sender = &senders[rng.usize(0..senders.len())];
                let mut request = Request::new(Full::default());
                *request.uri_mut() = http::Uri::from_static("/user");
                *request.method_mut() = if sender.user.is_some() { http::Method::GET } else { http::Method::POST };
                // A request of a merchant may name a user. It still acts as the merchant.
                request.extensions_mut().insert(sender.user.as_ref().unwrap_or(&other_user).clone());
                request.extensions_mut().insert(sender.merchant.clone());
                request.extensions_mut().insert(Arc::clone(sender));
                let mut call = pin!(service.call(request));
                let outcome = match rng.u32(0..16) {
                    // Dropped after one poll, or during a wait.
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
                    1..9 => source.invalidate_for(&sender.identity),
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
    Counts {
        arrived: api.arrived.load(Ordering::Relaxed),
        rejected: api.rejected.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
        dropped: dropped.load(Ordering::Relaxed),
        minted: minted.load(Ordering::SeqCst),
    }
}

// R30. Two runs, each in its own virtual time, with a million requests in total.
#[test]
fn a_million_requests_of_200_identities_each_carry_their_own_token() {
    // The client of the issuer panics on purpose. A failed check panics too, and must not be caught.
    let runs: Vec<_> = [1, 2]
        .map(|seed| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                runtime.unwrap().block_on(run(seed, REQUESTS / 2))
            })
        })
        .into_iter()
        .map(|run| run.join().unwrap())
        .collect();
    let total = |of: fn(&Counts) -> usize| runs.iter().map(of).sum::<usize>();
    println!("{runs:?}");
    assert!(total(|counts| counts.arrived) >= REQUESTS);
    // Every kind of event happened.
    for counts in &runs {
        assert!(
            counts.rejected > 500 && counts.failed > 500 && counts.dropped > 500 && counts.minted > 2000,
            "{counts:?}"
        );
    }
}
