//! Runs a future to its end.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

thread_local!(static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap());

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// The lines of an input that is text.
pub(crate) fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
