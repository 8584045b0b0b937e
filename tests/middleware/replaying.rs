//! Replays in virtual time: revoked tokens, permanent rejections, and issuers that fail.

mod audit;
mod budget;
mod drain;
mod extensions;
mod kept;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::{advance, sleep};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, Error, ErrorKind, ReplayOutcome, TokenProvider};

use crate::support::api::Api;
use crate::support::issuer::{issuer, token};
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};
use crate::support::wait::eventually;

type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

fn get() -> Request<Body> {
    Request::get(API).body(Body::default()).unwrap()
}

fn layer<P: TokenProvider>(provider: P) -> BearerAuthLayer<P> {
    BearerAuthLayer::new(provider).allow_origin(API).unwrap()
}

fn audit_of(response: &Response<Body>) -> Audit {
    Audit::of(response).unwrap().clone()
}

/// The tokens up to this number are revoked.
#[derive(Clone, Default)]
struct Revoked(Arc<AtomicUsize>);

impl Revoked {
    fn up_to(&self, number: usize) {
        self.0.store(number, Ordering::SeqCst);
    }

    fn judge(&self, request: &Request<Bytes>, challenge: &str) -> Response<Body> {
        let number: usize = bearer(request).strip_prefix("token-").unwrap().parse().unwrap();
        if number <= self.0.load(Ordering::SeqCst) { rejection(challenge) } else { response(StatusCode::OK) }
    }
}

fn revocable(challenge: &'static str) -> (Api, Revoked) {
    let revoked = Revoked::default();
    let judge = revoked.clone();
    (Api::new(move |request| judge.judge(request, challenge)), revoked)
}

// R22: the token's lifetime does not matter.
#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_replaced_by_the_next_call() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let (api, revoked) = revocable("");
    let layer = layer(provider);
    let (source, client) = (layer.source().clone(), layer.layer(api.clone()));
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    revoked.up_to(1);
    let response = client.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 200);
    let audit = audit_of(&response);
    assert_eq!(
        (audit.generation, audit.key(), audit.sends, audit.replay),
        (Some(2), Some(&()), 2, ReplayOutcome::Replayed)
    );
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    let tokens: Vec<_> = api.sends().iter().map(|sent| bearer(sent).to_owned()).collect();
    assert_eq!(tokens, ["token-1", "token-1", "token-2", "token-2"]);
    assert_eq!(fetches.count(), 2);
    // A replay waits for its token once, and does not look it up a second time.
    assert_eq!((source.stats().waits, source.stats().hits), (2, 2));
}

// R4: each generation is replaced once, however many 401s arrive and however late. R20: the caller gets the second
// response.
#[tokio::test(start_paused = true)]
async fn staggered_rejections_of_one_generation_make_one_token_request() {
    const CALLS: usize = 40;
    let (provider, fetches) = issuer(|n| async move {
        sleep(Duration::from_millis(150)).await;
        token(n)
    });
    let (api, revoked) = revocable(INVALID_TOKEN);
    let layer = layer(provider);
    let source = layer.source().clone();
    // The API judges each request on arrival and responds to one after the other: from before the fetch starts until
    // long after it has completed.
    let slow = {
        let api = api.clone();
        service_fn(move |request: Request<Body>| {
            let mut api = api.clone();
            async move {
                let late = request.extensions().get::<Duration>().copied().unwrap_or_default();
                let response = api.call(request).await?;
                sleep(if response.status() == 401 { late } else { Duration::ZERO }).await;
                Ok::<_, BoxError>(response)
            }
        })
    };
    let client = layer.layer(slow);
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    let old = source.peek().unwrap();
    revoked.up_to(1);
    let calls = (0..CALLS as u32).map(|n| {
        let mut request = get();
        request.extensions_mut().insert(Duration::from_millis(20) * n);
        client.clone().oneshot(request)
    });
    for response in join_all(calls).await {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        let audit = audit_of(&response);
        assert_eq!((audit.generation, audit.sends, audit.replay), (Some(2), 2, ReplayOutcome::Replayed));
    }
    assert_eq!((fetches.count(), api.sends().len()), (2, 1 + 2 * CALLS));
    let stats = source.stats();
    assert_eq!((stats.fetches, stats.rejections, stats.replays), (2, CALLS as u64, CALLS as u64));

    // To reject a token that is already replaced changes nothing, however often.
    for _ in 0..CALLS {
        assert!(source.reject(&(), &old), "there is a newer token for a replay");
    }
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!((source.peek().unwrap().generation(), fetches.count()), (2, 2));
    assert_eq!(source.stats().fetches, 2);
}

// R23
#[tokio::test(start_paused = true)]
async fn after_each_of_five_revocations_in_a_minute_all_requests_in_flight_succeed() {
    const CALLS: usize = 100;
    for apart in [Duration::ZERO, Duration::from_secs(12)] {
        let (provider, fetches) = issuer(|n| async move {
            sleep(Duration::from_millis(50)).await;
            token(n)
        });
        let (api, revoked) = revocable(INVALID_TOKEN);
        let gate = watch::Sender::new(true);
        let held = Arc::new(AtomicUsize::new(0));
        let gated = {
            let (api, gate, held) = (api.clone(), gate.clone(), Arc::clone(&held));
            service_fn(move |request: Request<Body>| {
                let (mut api, mut gate, held) = (api.clone(), gate.subscribe(), Arc::clone(&held));
                async move {
                    held.fetch_add(1, Ordering::SeqCst);
                    gate.wait_for(|open| *open).await.unwrap();
                    api.call(request).await
                }
            })
        };
        let client = layer(provider).layer(gated);
        assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
        for revocation in 1..=5 {
            gate.send_replace(false);
            held.store(0, Ordering::SeqCst);
            let calls: Vec<_> = (0..CALLS).map(|_| tokio::spawn(client.clone().oneshot(get()))).collect();
            eventually("all requests are held", || held.load(Ordering::SeqCst) == CALLS).await;
            revoked.up_to(revocation);
            gate.send_replace(true);
            for call in calls {
                let response = call.await.unwrap().unwrap();
                assert_eq!(response.status(), 200, "revocation {revocation}");
                assert_eq!(audit_of(&response).sends, 2);
            }
            advance(apart).await;
        }
        assert_eq!((fetches.count(), api.sends().len()), (6, 1 + 5 * 2 * CALLS));
    }
}

// R69: one stray 401 while the issuer is down must not become an outage, whatever the 401 says.
#[tokio::test(start_paused = true)]
async fn after_a_failed_fetch_the_rejected_token_is_stamped_again() {
    for challenge in ["", INVALID_TOKEN] {
        let (provider, fetches) = issuer(|n| async move {
            if n == 1 { token(n) } else { Err(Error::transient("down").with_kind(ErrorKind::Unavailable)) }
        });
        let (api, revoked) = revocable(challenge);
        let client = layer(provider).layer(api.clone());
        assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
        revoked.up_to(1);
        let response = client.clone().oneshot(get()).await.unwrap();
        assert_eq!(response.status(), 401);
        let audit = audit_of(&response);
        assert_eq!((audit.generation, audit.sends), (Some(1), 1));
        assert_eq!(audit.replay, ReplayOutcome::RefreshFailed(ErrorKind::Unavailable));
        // The API accepts the token again, and the issuer is still down.
        revoked.up_to(0);
        assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
        assert_eq!((fetches.count(), api.sends().len()), (2, 3));
    }
}

// An issuer that returns the rejected token again provides no new token.
#[tokio::test(start_paused = true)]
async fn a_rejected_token_that_the_issuer_returns_again_is_not_replayed() {
    let (provider, fetches) = issuer(|_| async { token(1) });
    let (api, revoked) = revocable(INVALID_TOKEN);
    let client = layer(provider).layer(api.clone());
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    revoked.up_to(1);
    let response = client.oneshot(get()).await.unwrap();
    assert_eq!(audit_of(&response).replay, ReplayOutcome::RefreshFailed(ErrorKind::Unavailable));
    assert_eq!((response.status(), fetches.count(), api.sends().len()), (StatusCode::UNAUTHORIZED, 2, 2));
}

// R19, R20: the header order is the same too.
#[tokio::test(start_paused = true)]
async fn the_head_of_a_replay_differs_from_the_first_send_only_in_the_token() {
    #[derive(Clone, Debug, PartialEq)]
    struct Order(u32);

    let (provider, _) = issuer(|n| async move { token(n) });
    let (api, revoked) = revocable(INVALID_TOKEN);
    revoked.up_to(1);
    let mut request = Request::put("https://api.example.com/orders/17?part=2&part=1").version(Version::HTTP_2);
    let sent =
        [("x-part", "2"), ("accept", "text/plain"), ("X-Part", "1"), ("accept", "*/*"), ("x-part", ""), ("te", "")];
    for (name, value) in sent {
        request = request.header(name, value);
    }
    let mut secret = HeaderValue::from_static("a key");
    secret.set_sensitive(true);
    let request = request.header("x-key", secret).extension(Order(17)).body(Body::default()).unwrap();
    let response = layer(provider).layer(api.clone()).oneshot(request).await.unwrap();
    assert_eq!((response.status(), audit_of(&response).replay), (StatusCode::OK, ReplayOutcome::Replayed));

    let sends = api.sends();
    let [first, second] = &sends[..] else { panic!("{} sends", sends.len()) };
    assert_eq!((bearer(first), bearer(second)), ("token-1", "token-2"));
    let headers = |request: &Request<Bytes>| -> Vec<_> {
        let others = request.headers().iter().filter(|(name, _)| **name != AUTHORIZATION);
        others.map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive())).collect()
    };
    assert_eq!(headers(first), headers(second));
    assert_eq!(headers(second).len(), sent.len() + 1);
    for request in [first, second] {
        assert_eq!((request.method(), request.version()), (&Method::PUT, Version::HTTP_2));
        assert_eq!(*request.uri(), "https://api.example.com/orders/17?part=2&part=1");
        assert_eq!(request.extensions().get::<Order>(), Some(&Order(17)));
    }
}
