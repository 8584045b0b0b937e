//! The layer in common client stacks, over TLS on loopback. Tokens expire and are revoked during requests.
//!
//! The gateway is the one of the example `axum_gateway`. `composed` sets the global subscriber, so these tests have a binary of
//! their own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod composed;
#[path = "../../examples/axum_gateway/gateway.rs"]
mod gateway;
mod grpc;
mod grpc_channel;
mod grpc_forms;
mod grpc_status;
mod over_axum;
mod over_hyper;
mod over_reqwest;
mod over_tonic;
#[path = "../support/mod.rs"]
mod support;
mod tonic_calls;
mod upstream;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use parking_lot::Mutex;
use tower_bearer_auth::{AccessPsp, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Verdict};

use support::https::{self, Http};
use support::time::Ahead;
use support::wait::{eventually, within};

/// The lifetime of the sandbox's tokens.
const LIFETIME: Duration = Duration::from_secs(1800);
/// After this time they have expired, for the sandbox too, which rounds up to whole seconds.
const OVER: Duration = Duration::from_secs(1801);
/// The number of concurrent requests. It is small enough for a limit of 256 open files.
const CALLS: usize = 6;

/// An issuer, an API, and a token source for it.
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

    /// Advances the time of the client and of the sandbox.
    fn age(&self, by: Duration) {
        *self.clock.0.lock() += by;
        self.sandbox.advance(by);
    }

    fn echo(&self) -> String {
        format!("{}/echo", self.sandbox.api_origin())
    }

    /// The number of requests with this verdict of the API.
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

/// Tests a stack without a token, with a token that expires between requests, with one that expires during requests, and
/// with one that is revoked during requests. `call` sends one request to `/echo`. The issuer and the API count.
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
                assert_eq!(within("a response", call).await.unwrap(), StatusCode::OK, "no caller gets a rejection");
            }
        }
    };
    let counted = || (sandbox.token_request_count(), sandbox.api_request_count());

    burst().await;
    assert_eq!(counted(), (1, CALLS), "without a token");

    stage.age(OVER);
    burst().await;
    assert_eq!(counted(), (2, 2 * CALLS), "the API gets no expired token");
    assert_eq!(stage.judged(Verdict::Accepted), 2 * CALLS);

    let interrupt = async |what: fn(&Stage)| {
        sandbox.hold();
        let responses = burst();
        within("the API holds them", sandbox.wait_held(CALLS)).await;
        what(stage);
        sandbox.release();
        responses.await;
    };
    interrupt(|stage| stage.age(OVER)).await;
    assert_eq!(counted(), (3, 4 * CALLS), "a token that expires during the requests");
    interrupt(|stage| stage.sandbox.revoke_all()).await;
    assert_eq!(counted(), (4, 6 * CALLS), "a token that is revoked during the requests");

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

/// Asserts that there is no process default of rustls, so nothing here needs one.
fn no_process_default() {
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

/// A server can keep the stack in its state.
fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}

/// The future of a stack can be spawned.
fn is_sent<F: Future + Send + 'static>(future: F) -> F {
    future
}
