//! Time and allocations of one stamped request, from `poll_ready` to the response.
//!
//! The request is created before the measurement. A first request asserts the header that arrives.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::{AllocProfiler, Bencher};
use hot_path::{Bare, Head, OverGrpc, STAMP, Sink, USER_STAMP};
use http::Request;
use tower_bearer_auth::{grpc, replay};
use tower_layer::Layer;
use tower_service::Service;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const EMPTY: fn() -> Request<hot_path::Plain> = || Head::Headers(2).empty();

fn alone<L, B>(bencher: Bencher<'_, '_>, layer: L, expected: Option<&'static str>, request: impl Fn() -> Request<B>)
where
    L: Layer<Sink, Service: Service<Request<B>, Error: Debug>>,
{
    let mut service = hot_path::checked(&layer, request(), expected);
    bencher.with_inputs(request).bench_local_values(|request| hot_path::send(&mut service, request));
}

/// Each request uses its own clone of one service.
fn cloned_each<L, B>(
    bencher: Bencher<'_, '_>,
    layer: L,
    expected: &'static str,
    request: impl Fn() -> Request<B> + Sync,
) where
    L: Layer<Sink, Service: Service<Request<B>, Error: Debug> + Clone + Sync>,
{
    let service = hot_path::checked(&layer, request(), Some(expected));
    bencher.with_inputs(|| (service.clone(), Some(request()))).bench_refs(|(service, request)| {
        let request = request.take().expect("each is sent once");
        hot_path::send(service, request)
    });
}

thread_local! {
    /// The run, and the clone that this thread uses in it.
    static KEPT: RefCell<(u64, Box<dyn Any>)> = RefCell::new((0, Box::new(())));
}

/// Each thread uses one clone of the service for all of its requests.
fn together<L, B>(bencher: Bencher<'_, '_>, layer: L, expected: &'static str, request: impl Fn() -> Request<B> + Sync)
where
    L: Layer<Sink, Service: Service<Request<B>, Error: Debug> + Clone + Sync + 'static>,
{
    static RUNS: AtomicU64 = AtomicU64::new(1);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let service = hot_path::checked(&layer, request(), Some(expected));
    bencher.with_inputs(request).bench_values(|request| {
        KEPT.with_borrow_mut(|(of, kept)| {
            if *of != run {
                (*of, *kept) = (run, Box::new(service.clone()));
            }
            hot_path::send(kept.downcast_mut::<L::Service>().expect("the clone of this run"), request)
        })
    });
}

/// Starts with the user that the check expects.
fn users(count: u64) -> impl Fn() -> Request<hot_path::Plain> + Sync {
    let turn = AtomicU64::new(0);
    move || Head::Headers(2).user(turn.fetch_add(1, Ordering::Relaxed), count)
}

mod one_thread {
    use super::*;

    #[divan::bench]
    fn a_bare(bencher: Bencher<'_, '_>) {
        alone(bencher, Bare, None, EMPTY);
    }

    #[divan::bench]
    fn b_static(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::fixed(), Some(STAMP), EMPTY);
    }

    #[divan::bench]
    fn c_by_hand(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::by_hand(), Some(STAMP), EMPTY);
    }

    #[divan::bench]
    fn d_off(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::ours().bodies(replay::Off), Some(STAMP), EMPTY);
    }

    #[divan::bench]
    fn e_empty(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::ours(), Some(STAMP), EMPTY);
    }

    #[divan::bench]
    fn f_cloned(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::ours().bodies(replay::Cloned), Some(STAMP), || Head::Headers(2).small());
    }

    #[divan::bench]
    fn g_buffered(bencher: Bencher<'_, '_>) {
        alone(bencher, hot_path::ours().bodies(hot_path::buffered()), Some(STAMP), || Head::Headers(2).boxed());
    }

    #[divan::bench(args = [1, 1_000, 1_000_000])]
    fn h_keyed(bencher: Bencher<'_, '_>, count: u64) {
        alone(bencher, hot_path::keyed(count).bodies(replay::Off), Some(USER_STAMP), users(count));
    }

    /// A gRPC call without the layer for gRPC.
    #[divan::bench]
    fn i_call(bencher: Bencher<'_, '_>) {
        let layer = hot_path::ours().bodies(hot_path::buffered());
        alone(bencher, OverGrpc(layer), Some(STAMP), hot_path::call);
    }

    /// The same with it: the trailers are watched.
    #[divan::bench]
    fn j_call_watched(bencher: Bencher<'_, '_>) {
        let layer = hot_path::ours().bodies(hot_path::buffered());
        alone(bencher, OverGrpc(grpc::layer(layer)), Some(STAMP), hot_path::call);
    }
}

#[divan::bench_group(threads = [1, 2, 4])]
mod threads {
    use super::*;

    #[divan::bench]
    fn b_static(bencher: Bencher<'_, '_>) {
        together(bencher, hot_path::fixed(), STAMP, EMPTY);
    }

    #[divan::bench]
    fn c_by_hand(bencher: Bencher<'_, '_>) {
        together(bencher, hot_path::by_hand(), STAMP, EMPTY);
    }

    #[divan::bench]
    fn d_off(bencher: Bencher<'_, '_>) {
        together(bencher, hot_path::ours().bodies(replay::Off), STAMP, EMPTY);
    }

    #[divan::bench]
    fn e_empty(bencher: Bencher<'_, '_>) {
        together(bencher, hot_path::ours(), STAMP, EMPTY);
    }

    #[divan::bench(args = [1_000])]
    fn h_keyed(bencher: Bencher<'_, '_>, count: u64) {
        together(bencher, hot_path::keyed(count).bodies(replay::Off), USER_STAMP, users(count));
    }
}

#[divan::bench_group(threads = [1, 2, 4])]
mod threads_that_clone_for_each_request {
    use super::*;

    #[divan::bench]
    fn b_static(bencher: Bencher<'_, '_>) {
        cloned_each(bencher, hot_path::fixed(), STAMP, EMPTY);
    }

    #[divan::bench]
    fn d_off(bencher: Bencher<'_, '_>) {
        cloned_each(bencher, hot_path::ours().bodies(replay::Off), STAMP, EMPTY);
    }
}
