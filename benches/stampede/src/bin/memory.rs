//! Bytes that live while many wait for one token, and while many users wait for nothing.
//!
//! Counted by the allocator: what was asked of it and not given back, without its own rounding. Each future is in a box of its
//! own, which counts, and is polled once; the requests are made before, so that their own memory does not count, but for the
//! head, which moves into the future. The list of boxes is made before as well.

use std::pin::Pin;
use std::task::Context;

use allocation_counter::{AllocationInfo, measure};
use futures_util::task::noop_waker_ref;
use http::Request;
use stampede::{Api, HALF_AN_HOUR, Issuer, LATENCY, Plain, User, Users};
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{FromExtension, IssuedToken, TokenSource, replay};
use tower_layer::Layer;
use tower_service::Service;

const MARK: f64 = 1024.0;
const USERS: u64 = 1_000_000;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// So many futures, each polled once, all of them alive; `size` is what the last of them takes itself.
struct Waiting {
    counted: AllocationInfo,
    size: usize,
}

fn wait_with<I, F: Future>(inputs: Vec<I>, issuer: &Issuer, begin: impl FnMut(I) -> F) -> Waiting {
    let mut begin = begin;
    let mut waiting: Vec<Pin<Box<F>>> = Vec::with_capacity(inputs.len());
    let mut inputs = inputs.into_iter();
    let mut counted = AllocationInfo::default();
    // All in one poll: tokio would otherwise make its timers wait their turn.
    runtime().block_on(tokio::task::unconstrained(async {
        let mut cx = Context::from_waker(noop_waker_ref());
        counted = measure(|| {
            for input in &mut inputs {
                let mut future = Box::pin(begin(input));
                assert!(future.as_mut().poll(&mut cx).is_pending(), "there is a token");
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

/// Sends one request through a layer of its own and reads what arrives, before anything is counted.
fn first_arrives<R>(bodies: R)
where
    R: replay::Bodies<Plain>,
{
    let (issuer, api) = (Issuer::new(LATENCY, HALF_AN_HOUR, true), Api::default());
    let mut service = stampede::layer(&TokenSource::new(issuer.clone())).bodies(bodies).layer(api.clone());
    // The API panics where the header does not hold a token of the issuer.
    let answer = runtime().block_on(service.call(stampede::request()));
    assert!(answer.is_ok_and(|answer| answer.status().is_success()), "the request failed");
    assert_eq!(
        (issuer.requests(), api.seen(), api.newest()),
        (1, 1, 0),
        "token requests, requests with a token, which token"
    );
}

fn waiters_of_a_source(count: usize) -> Waiting {
    let issuer = Issuer::new(LATENCY, HALF_AN_HOUR, true);
    let source = TokenSource::new(issuer.clone());
    // The provider's first token request is in the figure: it is one.
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
    // The first of them pays for what is made once.
    runtime.block_on(source.warm_up_for(&FromExtension(User(0)))).expect("a token");
    let counted = measure(|| {
        runtime.block_on(async {
            for number in 1..USERS {
                source.warm_up_for(&FromExtension(User(number))).await.expect("a token");
            }
        });
    });
    let stats = source.stats();
    assert_eq!((stats.keys, stats.fetches_succeeded, stats.evicted), (USERS, USERS, 0));
    for number in [0, USERS / 2, USERS - 1] {
        let token = source.peek_for(&FromExtension(User(number))).expect("a token");
        assert_eq!(token.expose_secret(), stampede::token(number));
    }
    counted.bytes_current as f64 / (USERS - 1) as f64
}

/// What a token's header value holds, wherever it is kept.
fn one_token() -> f64 {
    let secrets: Vec<String> = (0..1_000).map(stampede::token).collect();
    let mut kept = Vec::with_capacity(secrets.len());
    let counted = measure(|| kept.extend(secrets.iter().map(|secret| IssuedToken::bearer(secret).expect("a token"))));
    counted.bytes_current as f64 / kept.len() as f64
}

fn verdict(bytes: f64) -> &'static str {
    if bytes <= MARK { "met" } else { "MISSED" }
}

fn main() {
    println!("| waiters | way | its future | bytes a waiter | blocks a waiter | at the peak | mark 1024 |");
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
                verdict(bytes),
            );
        }
    }
    let (user, token) = (idle_users(), one_token());
    println!();
    println!("| idle users | bytes a user | of which the token | beside it | mark 1024 |");
    println!("| ---: | ---: | ---: | ---: | --- |");
    println!("| {USERS} | {user:.0} B | {token:.0} B | {:.0} B | {} |", user - token, verdict(user - token));
}
