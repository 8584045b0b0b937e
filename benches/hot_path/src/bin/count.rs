//! Sends requests in one of the compared ways, for an instruction counter: `count WAY HEADERS SHAPE REQUESTS`.
//!
//! The requests are created first. Only the functions `counted_section_*` are counted.

use std::fmt::Debug;
use std::hint::black_box;
use std::process::ExitCode;

use hot_path::{Bare, Head, STAMP, Sink, SinkResponse, USER_STAMP};
use http::Request;
use tower_bearer_auth::replay;
use tower_layer::Layer;
use tower_service::Service;

const USAGE: &str = "count WAY HEADERS SHAPE REQUESTS
WAY      bare static by-hand off empty shared-off shared-empty cloned buffered keyed-USERS keyed-USERS-empty
HEADERS  2 10 20 tonic reqwest extension
SHAPE    alone: one request after the other
         clones: each request has its own clone of the service, which is counted";

#[derive(Clone, Copy)]
enum Shape {
    Alone,
    Clones,
}

#[inline(never)]
fn counted_section_alone<S, B>(service: &mut S, requests: Vec<Request<B>>)
where
    S: Service<Request<B>, Response = SinkResponse>,
    S::Error: Debug,
{
    for request in requests {
        black_box(hot_path::send(service, request));
    }
}

#[inline(never)]
fn counted_section_of_clones<S, B>(service: &S, requests: Vec<Request<B>>)
where
    S: Service<Request<B>, Response = SinkResponse> + Clone,
    S::Error: Debug,
{
    for request in requests {
        black_box(hot_path::send(&mut service.clone(), request));
    }
}

fn run<L, B>(shape: Shape, layer: L, expected: Option<&'static str>, n: u64, request: impl Fn(u64) -> Request<B>)
where
    L: Layer<Sink>,
    L::Service: Service<Request<B>, Response = SinkResponse, Error: Debug> + Clone,
{
    let mut service = hot_path::checked(&layer, request(0), expected);
    // What is made once is not counted.
    for turn in 0..4 {
        hot_path::send(&mut service, request(turn));
    }
    // A live block between two requests: without it, freed requests can merge into a block of more than 64 KiB, and glibc then
    // consolidates its free lists at every free.
    let (requests, separators): (Vec<_>, Vec<_>) = (0..n).map(|turn| (request(turn), Box::new([0_u8; 32]))).unzip();
    match shape {
        Shape::Alone => counted_section_alone(&mut service, requests),
        Shape::Clones => counted_section_of_clones(&service, requests),
    }
    drop(black_box(separators));
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if count(&words).is_some() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn count(words: &[String]) -> Option<()> {
    let [way, headers, shape, n] = words else { return None };
    let (head, n) = (Head::parse(headers)?, n.parse().ok()?);
    let shape = match shape.as_str() {
        "alone" => Shape::Alone,
        "clones" => Shape::Clones,
        _ => return None,
    };
    let (empty, small, boxed) = (|_| head.empty(), |_| head.small(), |_| head.boxed());
    match way.as_str() {
        "bare" => run(shape, Bare, None, n, empty),
        "static" => run(shape, hot_path::fixed(), Some(STAMP), n, empty),
        "by-hand" => run(shape, hot_path::by_hand(), Some(STAMP), n, empty),
        "off" => run(shape, hot_path::ours().bodies(replay::Off), Some(STAMP), n, empty),
        "empty" => run(shape, hot_path::ours(), Some(STAMP), n, empty),
        "shared-off" => run(shape, hot_path::shared().bodies(replay::Off), Some(STAMP), n, empty),
        "shared-empty" => run(shape, hot_path::shared(), Some(STAMP), n, empty),
        "cloned" => run(shape, hot_path::ours().bodies(replay::Cloned), Some(STAMP), n, small),
        "buffered" => run(shape, hot_path::ours().bodies(hot_path::buffered()), Some(STAMP), n, boxed),
        keyed => {
            let users = keyed.strip_prefix("keyed-")?;
            let (users, keeps_copy) = match users.strip_suffix("-empty") {
                Some(users) => (users, true),
                None => (users, false),
            };
            let users = users.parse().ok().filter(|users| *users > 0)?;
            let (layer, user) = (hot_path::keyed(users), |turn| head.user(turn, users));
            if keeps_copy {
                run(shape, layer, Some(USER_STAMP), n, user);
            } else {
                run(shape, layer.bodies(replay::Off), Some(USER_STAMP), n, user);
            }
        }
    }
    Some(())
}
