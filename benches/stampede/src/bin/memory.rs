//! The memory of callers that wait for one token, and of idle users.
//!
//! The allocator counts the requested bytes that are not freed, without its own rounding. Each future is in a box, which counts,
//! and is polled once. The requests are created before, so their memory does not count, except for the head, which moves into
//! the future. The list of boxes is created before as well.

use std::pin::Pin;
use std::task::Context;

use allocation_counter::{AllocationInfo, measure};
use futures_util::task::noop_waker_ref;
use http::Request;
use stampede::{Api, HALF_AN_HOUR, Issuer, LATENCY, Plain, User, Users};
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{ExtensionKey, IssuedToken, TokenSource, replay};
use tower_layer::Layer;
use tower_service::Service;

const MARK: f64 = 1024.0;
/// For an idle user, beside the token.
const IDLE_MARK: f64 = 400.0;
const USERS: u64 = 1_000_000;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// The memory of the futures, each polled once, and the size of one of them.
struct Waiting {
    counted: AllocationInfo,
    size: usize,
}

fn wait_with<I, F: Future>(inputs: Vec<I>, issuer: &Issuer, begin: impl FnMut(I) -> F) -> Waiting {
    let mut begin = begin;
    let mut waiting: Vec<Pin<Box<F>>> = Vec::with_capacity(inputs.len());
    let mut inputs = inputs.into_iter();
    let mut counted = AllocationInfo::default();
    // Without this, tokio's budget would delay the timers to a later poll.
    runtime().block_on(tokio::task::unconstrained(async {
        let mut cx = Context::from_waker(noop_waker_ref());
        counted = measure(|| {
            for input in &mut inputs {
                let mut future = Box::pin(begin(input));
                assert!(future.as_mut().poll(&mut cx).is_pending(), "no token is cached");
                waiting.push(future);
            }
        });
        while issuer.requests() == 0 {
            tokio::task::yield_now().await;
        }
    }));
    assert_eq!(issuer.requests(), 1, "token requests");
    Waiting { counted, size: size_of::<F>() }
}

/// Sends one request through another layer and checks what arrives, before the measurement.
fn first_arrives<R>(bodies: R)
where
    R: replay::Bodies<Plain>,
{
    let (issuer, api) = (Issuer::new(LATENCY, HALF_AN_HOUR, true), Api::default());
    let mut service = stampede::layer(&TokenSource::new(issuer.clone())).bodies(bodies).layer(api.clone());
    // The API panics if the header does not contain a token of the issuer.
    let response = runtime().block_on(service.call(stampede::request()));
    assert!(response.is_ok_and(|response| response.status().is_success()), "the request failed");
    assert_eq!(
        (issuer.requests(), api.received(), api.newest()),
        (1, 1, 0),
        "token requests, requests with a token, the number of the token"
    );
}

fn waiters_of_a_source(count: usize) -> Waiting {
    let issuer = Issuer::new(LATENCY, HALF_AN_HOUR, true);
    let source = TokenSource::new(issuer.clone());
    // The figure includes the one token request.
    wait_with(vec![(); count], &issuer, |()| source.token())
}

fn waiters_of_a_layer<R>(count: usize, bodies: R) -> Waiting
where
    R: replay::Bodies<Plain> + Clone,
{
    first_arrives(bodies.clone());
    let issuer = Issuer::new(LATENCY, HALF_AN_HOUR, true);
    let service = stampede::layer(&TokenSource::new(issuer.clone())).bodies(bodies).layer(Api::default());
    let requests: Vec<Request<Plain>> = (0..count).map(|_| stampede::request()).collect();
    wait_with(requests, &issuer, |request| service.clone().call(request))
}

fn idle_users() -> f64 {
    let source = TokenSource::builder(Users).max_keys(usize::try_from(USERS).expect("that many")).build();
    let runtime = runtime();
    // The first user includes what is allocated once.
    runtime.block_on(source.warm_up_for(&ExtensionKey(User(0)))).expect("a token");
    let counted = measure(|| {
        runtime.block_on(async {
            for number in 1..USERS {
                source.warm_up_for(&ExtensionKey(User(number))).await.expect("a token");
            }
        });
    });
    let stats = source.stats();
    assert_eq!((stats.keys, stats.fetches_succeeded, stats.evicted), (USERS, USERS, 0));
    for number in [0, USERS / 2, USERS - 1] {
        let token = source.peek_for(&ExtensionKey(User(number))).expect("a token");
        assert_eq!(token.expose_secret(), stampede::token(number));
    }
    counted.bytes_current as f64 / (USERS - 1) as f64
}

/// The memory of the header value of a token.
fn one_token() -> f64 {
    let secrets: Vec<String> = (0..1_000).map(stampede::token).collect();
    let mut kept = Vec::with_capacity(secrets.len());
    let counted = measure(|| kept.extend(secrets.iter().map(|secret| IssuedToken::bearer(secret).expect("a token"))));
    counted.bytes_current as f64 / kept.len() as f64
}

fn verdict(bytes: f64, mark: f64) -> &'static str {
    if bytes <= mark { "met" } else { "MISSED" }
}

fn main() {
    println!("| waiters | way | its future | bytes per waiter | blocks per waiter | at the peak | mark 1024 |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: | --- |");
    for count in [1_000, 10_000, 100_000] {
        let ways = [
            ("`source.token()`", waiters_of_a_source(count)),
            ("layer, replay off", waiters_of_a_layer(count, replay::Off)),
            ("layer, empty", waiters_of_a_layer(count, replay::Empty)),
            ("layer, cloned", waiters_of_a_layer(count, replay::Cloned)),
        ];
        for (name, Waiting { counted, size }) in ways {
            let each = |total: f64| total / count as f64;
            let bytes = each(counted.bytes_current as f64);
            println!(
                "| {count} | {name} | {size} B | {bytes:.0} B | {:.1} | {:.0} B | {} |",
                each(counted.count_current as f64),
                each(counted.bytes_max as f64),
                verdict(bytes, MARK),
            );
        }
    }
    let (user, token) = (idle_users(), one_token());
    println!();
    println!("| idle users | bytes per user | of which the token | beside it | mark 400 |");
    println!("| ---: | ---: | ---: | ---: | --- |");
    println!("| {USERS} | {user:.0} B | {token:.0} B | {:.0} B | {} |", user - token, verdict(user - token, IDLE_MARK));
}
