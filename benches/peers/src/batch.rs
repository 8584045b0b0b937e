//! Many calls of one kind, prepared before the measurement.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// One way to read a cached token or to stamp a request.
pub struct Way {
    pub label: &'static str,
    batch: Box<dyn Batch>,
    show: Box<dyn Fn() -> String>,
}

trait Batch {
    fn prepare(&mut self, count: usize);
    fn run(&mut self);
}

struct Calls<M, E, R> {
    make: M,
    each: E,
    ready: Vec<R>,
}

impl<R, T, M: Fn() -> R, E: Fn(R) -> T> Batch for Calls<M, E, R> {
    fn prepare(&mut self, count: usize) {
        self.ready.reserve(count);
        self.ready.extend((0..count).map(|_| (self.make)()));
    }

    fn run(&mut self) {
        for request in self.ready.drain(..) {
            drop(black_box((self.each)(request)));
        }
    }
}

impl Way {
    /// `each` is measured, including the drop of its result. `make` is not measured. `show` does the same as `each` and returns
    /// the token that was read or arrived.
    pub fn new<R: 'static, T: 'static>(
        label: &'static str,
        make: impl Fn() -> R + 'static,
        each: impl Fn(R) -> T + 'static,
        show: impl Fn() -> String + 'static,
    ) -> Self {
        Self { label, batch: Box::new(Calls { make, each, ready: Vec::new() }), show: Box::new(show) }
    }

    /// The token that was read or arrived.
    pub fn token(&self) -> String {
        let shown = (self.show)();
        shown.strip_prefix("Bearer ").unwrap_or(&shown).to_owned()
    }

    pub fn prepare(&mut self, count: usize) {
        self.batch.prepare(count);
    }

    pub fn run(&mut self) {
        self.batch.run();
    }
}

/// The output of a future that completes at the first poll.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the call waits although the token is cached"),
    }
}
