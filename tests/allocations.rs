//! What one request on the cached path allocates, counted and held against tower-http's static header.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use allocation_counter::AllocationInfo;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service};
use tower_bearer_auth::{BearerAuthLayer, Static, TokenSource, replay};
use tower_http::auth::AddAuthorizationLayer;

#[derive(Clone)]
struct Sink;

impl<B> Service<Request<B>> for Sink {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(request.headers().contains_key(AUTHORIZATION), "the header did not arrive");
        ready(Ok(Response::new(Empty::new())))
    }
}

fn request<B>(body: B) -> Request<B> {
    Request::get("https://api.example.com/things")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "test")
        .body(body)
        .unwrap()
}

fn count<S, B>(service: &mut S, body: B) -> u64
where
    S: Service<Request<B>>,
{
    let request = request(body);
    let AllocationInfo { count_total, .. } = allocation_counter::measure(|| {
        let response = service.call(request).now_or_never().expect("nothing to wait for");
        assert!(response.is_ok());
    });
    count_total
}

fn warm() -> TokenSource<Static> {
    let source = TokenSource::new(Static::new("opaque-token").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(source.token()).unwrap();
    source
}

fn layer(source: &TokenSource<Static>) -> BearerAuthLayer<Static> {
    source.layer().allow_origin("https://api.example.com").unwrap()
}

#[test]
fn a_stamped_request_allocates_no_more_than_a_static_header() {
    let source = warm();
    let mut fixed = AddAuthorizationLayer::bearer("opaque-token").layer(Sink);
    let mut ours = layer(&source).bodies(replay::Off).layer(Sink);
    let (fixed, ours) = (count(&mut fixed, Full::<Bytes>::default()), count(&mut ours, Full::<Bytes>::default()));
    println!("static header {fixed}, this layer with replay off {ours} allocations");
    assert!(ours <= fixed, "{ours} > {fixed}");
}

#[test]
fn keeping_a_copy_allocates_what_a_copy_of_the_head_does() {
    let source = warm();
    let sample = request(());
    let copy = allocation_counter::measure(|| {
        drop((sample.method().clone(), sample.uri().clone(), sample.headers().clone(), sample.extensions().clone()));
    });
    let off = count(&mut layer(&source).bodies(replay::Off).layer(Sink), Full::<Bytes>::default());
    for (name, kept) in [
        ("Empty", count(&mut layer(&source).layer(Sink), Full::<Bytes>::default())),
        ("Cloned", count(&mut layer(&source).bodies(replay::Cloned).layer(Sink), Full::<Bytes>::from("body"))),
    ] {
        println!("{name}: {kept}, off {off}, a copy of the head {}", copy.count_total);
        assert!(kept <= off + copy.count_total, "{name}: {kept} > {off} + {}", copy.count_total);
    }
    // A body that Empty cannot keep costs no copy.
    let not_kept = count(&mut layer(&source).layer(Sink), Full::<Bytes>::from("body"));
    assert_eq!(not_kept, off);
}
