//! Replays over real sockets, counted at the servers.

mod early;
mod redirects;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::RwLock;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::replay::Cloned;
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, ReplayOutcome, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, ScriptedResponse, Verdict};

use crate::support::https::{Http, client, provider};
use crate::support::time::Ahead;
use crate::support::wait::within;

type Body = Full<Bytes>;

/// A hundred connections need two hundred sockets. With other tests at the same time they would exceed 256 open files.
static FILES: RwLock<()> = RwLock::const_new(());

/// A payment without an idempotency key. The sandbox counts how often it is applied.
fn session(sandbox: &AccessPspSandbox, reference: usize) -> Request<Body> {
    Request::post(format!("{}/wallets/wsps/sessions", sandbox.api_origin()))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(format!(r#"{{"reference":"{reference}"}}"#))))
        .unwrap()
}

fn echo(sandbox: &AccessPspSandbox) -> Request<Body> {
    Request::get(format!("{}/echo", sandbox.api_origin())).body(Body::default()).unwrap()
}

fn sends(response: &Response<Incoming>) -> Option<u8> {
    Audit::of(response).map(|audit| audit.sends)
}

// R4, R18, R20, R22, R23: counted at the issuer and at the API.
#[tokio::test]
async fn a_hundred_requests_in_flight_at_each_of_five_revocations_succeed_with_one_token_request() {
    const CALLS: usize = 100;
    let _files = FILES.write().await;
    for version in [Http::One, Http::Two] {
        let sandbox = AccessPspSandbox::start().await.unwrap();
        let layer = BearerAuthLayer::new(provider(&sandbox).build().unwrap()).bodies(Cloned);
        let source = layer.source().clone();
        let client = layer.layer(client(&sandbox, version));
        let response = client.clone().oneshot(echo(&sandbox)).await.unwrap();
        assert_eq!((response.status(), sends(&response)), (StatusCode::OK, None));
        let mut applied = 0;
        for revocation in 1..=5 {
            sandbox.reset_records();
            sandbox.hold();
            let calls: Vec<_> =
                (0..CALLS).map(|call| tokio::spawn(client.clone().oneshot(session(&sandbox, call)))).collect();
            within("the API holds them", sandbox.wait_held(CALLS)).await;
            sandbox.revoke_all();
            sandbox.release();
            for call in calls {
                let response = call.await.unwrap().unwrap();
                assert_eq!((response.status(), sends(&response)), (StatusCode::CREATED, Some(2)));
            }
            assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (1, 2 * CALLS));
            let seen = sandbox.api_requests();
            let verdicts = |verdict| seen.iter().filter(|request| request.verdict == Some(verdict)).count();
            assert_eq!((verdicts(Verdict::Revoked), verdicts(Verdict::Accepted)), (CALLS, CALLS));
            assert!(seen.iter().all(|request| request.headers.get_all("authorization").iter().count() == 1));
            let applied_to: HashSet<_> = sandbox.sessions().iter().map(|session| session.body.clone()).collect();
            assert_eq!((sandbox.sessions().len(), applied_to.len()), (CALLS, CALLS), "nothing is applied twice");
            applied += CALLS as u64;
            let stats = source.stats();
            assert_eq!((stats.fetches, stats.rejections, stats.replays), (1 + revocation, applied, applied));
        }
        let version = if version == Http::One { Version::HTTP_11 } else { Version::HTTP_2 };
        assert!(sandbox.api_requests().iter().all(|request| request.version == version));
    }
}

// R21: the rejections are read, so that their connections go back to the pool.
#[tokio::test]
async fn a_thousand_replayed_requests_open_no_more_connections_than_there_are_tasks() {
    const TASKS: usize = 8;
    const ROUNDS: usize = 125;
    let _files = FILES.read().await;
    let sandbox = AccessPspSandbox::builder().token_lifetime(Duration::from_secs(86_400)).start().await.unwrap();
    // More than hyper reads itself when a body is dropped.
    sandbox.reject_with(ScriptedResponse::unauthorized().body(vec![b'x'; 60 * 1024]));
    let clock = Ahead::default();
    let source = TokenSource::builder(provider(&sandbox).build().unwrap()).clock(clock.clone()).build();
    let client = source.layer().layer(client(&sandbox, Http::One));
    let all = || async {
        let calls: Vec<_> = (0..TASKS).map(|_| tokio::spawn(client.clone().oneshot(echo(&sandbox)))).collect();
        for call in calls {
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        }
    };
    for _ in 0..ROUNDS {
        sandbox.hold();
        let release = async {
            within("the API holds them", sandbox.wait_held(TASKS)).await;
            sandbox.revoke_all();
            sandbox.release();
        };
        tokio::join!(all(), release);
        *clock.0.lock() += Duration::from_secs(10);
    }
    let connections = sandbox.api_connections();
    println!("{connections} connections for {} sends by {TASKS} tasks", sandbox.api_request_count());
    let seen = sandbox.api_requests();
    let rejections = seen.iter().filter(|request| request.status == Some(StatusCode::UNAUTHORIZED)).count();
    assert_eq!(rejections, TASKS * (ROUNDS - 1) + TASKS);
    assert!(connections <= TASKS, "{connections} connections");
}
