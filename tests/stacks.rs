//! The layer in the client stacks that people have, over loopback with TLS, through an expiry and revocations in flight.
//!
//! The gateway is the one of the example, by its file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use parking_lot::Mutex;
use tower_bearer_auth::{AccessPsp, Clock, Now, SystemClock, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Verdict};

#[path = "stacks/composed.rs"]
mod composed;
#[path = "common/eventually.rs"]
mod eventually;
#[path = "../examples/axum_gateway/gateway.rs"]
mod gateway;
#[path = "common/https.rs"]
mod https;
#[path = "stacks/over_axum.rs"]
mod over_axum;
#[path = "stacks/over_hyper.rs"]
mod over_hyper;
#[path = "stacks/over_reqwest.rs"]
mod over_reqwest;
#[path = "stacks/over_tonic.rs"]
mod over_tonic;
#[path = "stacks/upstream.rs"]
mod upstream;
#[path = "common/within.rs"]
mod within;
use https::Http;
use within::within;

/// How long the sandbox's tokens live.
const LIFETIME: Duration = Duration::from_secs(1800);
/// By then they have ended, for the sandbox too: it rounds up to whole seconds.
const OVER: Duration = Duration::from_secs(1801);
/// How many requests go at a time: few enough for a process that may open 256 files.
const CALLS: usize = 6;

/// The client's clock, which a test moves on.
#[derive(Clone, Default)]
struct Ahead(Arc<Mutex<Duration>>);

impl Clock for Ahead {
    fn now(&self) -> Now {
        SystemClock.now().after(*self.0.lock())
    }
}

/// An issuer, an API, and a source of tokens for it.
struct Stage {
    sandbox: AccessPspSandbox,
    source: TokenSource<AccessPsp>,
    clock: Ahead,
}

impl Stage {
    async fn set() -> Self {
        let sandbox = AccessPspSandbox::builder().token_lifetime(LIFETIME).start().await.unwrap();
        let clock = Ahead::default();
        let provider = https::provider(&sandbox).build().unwrap();
        let source = TokenSource::builder(provider).clock(clock.clone()).build();
        Self { sandbox, source, clock }
    }

    /// Time goes on at both ends.
    fn age(&self, by: Duration) {
        *self.clock.0.lock() += by;
        self.sandbox.advance(by);
    }

    fn echo(&self) -> String {
        format!("{}/echo", self.sandbox.api_origin())
    }

    /// How many requests the API judged so.
    fn judged(&self, verdict: Verdict) -> usize {
        self.sandbox.api_requests().iter().filter(|request| request.verdict == Some(verdict)).count()
    }
}

fn version_of(http: Http) -> Version {
    match http {
        Http::One => Version::HTTP_11,
        Http::Two => Version::HTTP_2,
    }
}

/// Drives a stack, whose `call` sends one request to the echo, through a cold start, an expiry at rest, an expiry in
/// flight and a revocation in flight. What happened is counted at the issuer and at the API.
async fn through_expiries_and_a_revocation<F, Fut>(stage: &Stage, http: Http, call: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = StatusCode> + Send + 'static,
{
    let Stage { sandbox, source, .. } = stage;
    let burst = || {
        let calls: Vec<_> = (0..CALLS).map(|_| tokio::spawn(call())).collect();
        async move {
            for call in calls {
                assert_eq!(within("an answer", call).await.unwrap(), StatusCode::OK, "no caller sees a refusal");
            }
        }
    };
    let counted = || (sandbox.token_request_count(), sandbox.api_request_count());

    burst().await;
    assert_eq!(counted(), (1, CALLS), "cold");

    stage.age(OVER);
    burst().await;
    assert_eq!(counted(), (2, 2 * CALLS), "an expiry at rest is not even seen by the API");
    assert_eq!(stage.judged(Verdict::Accepted), 2 * CALLS);

    let interrupt = async |what: fn(&Stage)| {
        sandbox.hold();
        let answers = burst();
        within("the API holds them", sandbox.wait_held(CALLS)).await;
        what(stage);
        sandbox.release();
        answers.await;
    };
    interrupt(|stage| stage.age(OVER)).await;
    assert_eq!(counted(), (3, 4 * CALLS), "an expiry in flight");
    interrupt(|stage| stage.sandbox.revoke_all()).await;
    assert_eq!(counted(), (4, 6 * CALLS), "a revocation in flight");

    let verdicts = [Verdict::Accepted, Verdict::Expired, Verdict::Revoked].map(|verdict| stage.judged(verdict));
    assert_eq!(verdicts, [4 * CALLS, CALLS, CALLS]);
    for request in sandbox.api_requests() {
        assert_eq!(request.version, version_of(http));
        assert_eq!(request.headers.get_all("authorization").iter().count(), 1);
    }
    let stats = source.stats();
    assert_eq!((stats.fetches, stats.rejections, stats.replays), (4, 2 * CALLS as u64, 2 * CALLS as u64));
    no_process_default();
}

/// That nothing here needs rustls' process default, or has installed one: with two providers compiled in there is none.
fn no_process_default() {
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

/// What a stack has to be for a server to hold it in its state.
fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}

/// What a stack's future has to be to be spawned.
fn is_sent<F: Future + Send + 'static>(future: F) -> F {
    future
}
