//! Requests across a thousand rotations of the token, in virtual time: how many wait for the network.
//!
//! 10 000 requests a second, ten in each millisecond, through the layer. Tokens live for 10 s. For an issuer that takes 500 ms,
//! this is the shortest lifetime with a long enough window: it begins after 5 to 5.5 s, and the token is usable until 7.5 s.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::task::noop_waker_ref;
use stampede::{Api, Issuer};
use tokio::time::{Instant, advance};
use tower_bearer_auth::{Clock, Now, TokenSource};
use tower_layer::Layer;
use tower_service::Service;

const ROTATIONS: u64 = 1_000;
const A_MILLISECOND: u64 = 10;
const LATENCY: Duration = Duration::from_millis(500);
const LIFETIME: Duration = Duration::from_secs(10);

/// Both clocks follow tokio's paused clock.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Now {
        let passed = self.0.elapsed();
        Now { mono: self.0.into_std() + passed, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) + passed }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let start = Instant::now();
    let (issuer, api) = (Issuer::new(LATENCY, LIFETIME, true), Api::default());
    let source = TokenSource::builder(issuer.clone()).clock(Paused(start)).jitter_seed(1).build();
    let mut service = stampede::layer(&source).layer(api.clone());

    service.call(stampede::request()).await.expect("a response");
    let first = start.elapsed();
    assert!(first >= LATENCY, "the first request waits for its token");

    let start = Instant::now();
    let (mut sent, mut waited) = (0_u64, 0_u64);
    let mut cx = Context::from_waker(noop_waker_ref());
    while api.newest() < ROTATIONS {
        for _ in 0..A_MILLISECOND {
            let mut response = pin!(service.call(stampede::request()));
            sent += 1;
            match response.as_mut().poll(&mut cx) {
                Poll::Ready(result) => drop(result.expect("a response")),
                Poll::Pending => {
                    waited += 1;
                    response.await.expect("a response");
                }
            }
        }
        advance(Duration::from_millis(1)).await;
    }

    let stats = source.stats();
    assert_eq!(api.received(), sent + 1, "each arrived once");
    assert_eq!((stats.fetches, stats.waits), (issuer.requests(), waited + 1), "stats() agrees with the counts");
    assert_eq!(issuer.requests(), ROTATIONS + 1, "one token request for each rotation");
    println!("| virtual time | requests | rotations | token requests | waited for the network after the first token |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    println!("| {} s | {sent} | {} | {} | {waited} |", start.elapsed().as_secs(), api.newest(), issuer.requests());
    println!();
    println!("mark: no request waits: {}", if waited == 0 { "met" } else { "MISSED" });
}
