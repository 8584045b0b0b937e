//! Sends requests in one of the compared ways, for an instruction counter: `count WAY REQUESTS`.
//!
//! The requests are created first. Only [`counted_section`] is counted.

use std::fmt::Debug;
use std::hint::black_box;
use std::process::ExitCode;

use hot_path::{Bare, STAMP, SinkResponse, USER_STAMP};
use http::Request;
use tower_bearer_auth::replay;
use tower_layer::Layer;
use tower_service::Service;

const WAYS: &str = "bare static by-hand off off-clones empty cloned buffered keyed-USERS";

#[inline(never)]
fn counted_section<S, B>(service: &mut S, requests: Vec<Request<B>>)
where
    S: Service<Request<B>, Response = SinkResponse>,
    S::Error: Debug,
{
    for request in requests {
        black_box(hot_path::send(service, request));
    }
}

/// Sends each request through an unused service.
#[inline(never)]
fn counted_section_of_clones<S, B>(services: Vec<S>, requests: Vec<Request<B>>)
where
    S: Service<Request<B>, Response = SinkResponse>,
    S::Error: Debug,
{
    for (mut service, request) in services.into_iter().zip(requests) {
        black_box(hot_path::send(&mut service, request));
    }
}

fn run<L, B>(layer: L, expected: Option<&'static str>, requests: u64, request: impl Fn(u64) -> Request<B>)
where
    L: Layer<hot_path::Sink, Service: Service<Request<B>, Response = SinkResponse, Error: Debug>>,
{
    let mut service = hot_path::checked(&layer, request(0), expected);
    // A live block between two requests: without it, freed requests can merge into a block of more than 64 KiB, and glibc then
    // consolidates its free lists at every free.
    let (requests, separators): (Vec<_>, Vec<_>) =
        (0..requests).map(|turn| (request(turn), Box::new([0_u8; 32]))).unzip();
    counted_section(&mut service, requests);
    drop(black_box(separators));
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(way), Some(Ok(n))) = (words.next(), words.next().map(|n| n.parse())) else {
        eprintln!("count WAY REQUESTS, where WAY is one of {WAYS}");
        return ExitCode::from(2);
    };
    let (empty, small, boxed) = (|_| hot_path::empty(), |_| hot_path::small(), |_| hot_path::boxed());
    match way.as_str() {
        "bare" => run(Bare, None, n, empty),
        "static" => run(hot_path::fixed(), Some(STAMP), n, empty),
        "by-hand" => run(hot_path::by_hand(), Some(STAMP), n, empty),
        "off" => run(hot_path::ours().bodies(replay::Off), Some(STAMP), n, empty),
        "off-clones" => {
            let service = hot_path::checked(&hot_path::ours().bodies(replay::Off), empty(0), Some(STAMP));
            counted_section_of_clones(vec![service; n as usize], (0..n).map(empty).collect());
        }
        "empty" => run(hot_path::ours(), Some(STAMP), n, empty),
        "cloned" => run(hot_path::ours().bodies(replay::Cloned), Some(STAMP), n, small),
        "buffered" => run(hot_path::ours().bodies(hot_path::buffered()), Some(STAMP), n, boxed),
        keyed => match keyed.strip_prefix("keyed-").and_then(|users| users.parse().ok()) {
            Some(users) if users > 0 => {
                let layer = hot_path::keyed(users).bodies(replay::Off);
                run(layer, Some(USER_STAMP), n, |turn| hot_path::user(turn, users));
            }
            _ => {
                eprintln!("count: {keyed} is not one of {WAYS}");
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}
