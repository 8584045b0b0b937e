//! The tokio runtime and its timers.
//!
//! Only this module checks whether there is a runtime and whether it has timers. Tokio has no function for the second
//! check: a timer panics in a runtime that has none. Such a panic reaches every panic hook, so each runtime is checked until
//! the first panic.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::error::{Error, ErrorKind};

/// The runtimes without timers that were found last. A program has few of them, so the limit matters only if it creates
/// runtimes in a loop.
static WITHOUT_TIMERS: Mutex<[Option<Id>; 16]> = Mutex::new([None; 16]);

/// The current runtime.
///
/// # Errors
///
/// [`ErrorKind::NoRuntime`] outside of a runtime.
pub(crate) fn current() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| {
        Error::new(ErrorKind::NoRuntime, "a token request needs a tokio runtime")
            .with_hint("send the request from inside a tokio runtime")
    })
}

/// The current runtime, if it has timers. A fetch and a wait need them, so that both have a deadline.
///
/// # Errors
///
/// [`ErrorKind::NoRuntime`] outside of a runtime, and in one without timers.
pub(crate) fn with_timers() -> Result<Handle, Error> {
    let current = current()?;
    sleep(&current, Duration::ZERO).map(|_| current)
}

/// A timer of the current runtime.
///
/// # Errors
///
/// [`ErrorKind::NoRuntime`] outside of a runtime, and in one without timers.
pub(crate) fn timer(after: Duration) -> Result<Pin<Box<Sleep>>, Error> {
    sleep(&current()?, after).map(Box::pin)
}

fn sleep(current: &Handle, after: Duration) -> Result<Sleep, Error> {
    let id = current.id();
    if WITHOUT_TIMERS.lock().contains(&Some(id)) {
        return Err(no_timers());
    }
    catch_unwind(AssertUnwindSafe(|| tokio::time::sleep(after))).map_err(|_| {
        let mut known = WITHOUT_TIMERS.lock();
        known.rotate_right(1);
        known[0] = Some(id);
        no_timers()
    })
}

/// The output of `work`, or `None` if the deadline passes first.
///
/// Work that uses up tokio's cooperative budget on every poll does not delay the deadline.
pub(crate) async fn within<F: Future>(deadline: Pin<&mut Sleep>, work: F) -> Option<F::Output> {
    match select(pin!(work), unconstrained(deadline)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Whether `after` has passed since the first call, which creates the timer. `None` if there are no timers.
pub(crate) fn has_passed(armed: &mut Option<Pin<Box<Sleep>>>, after: Duration, cx: &mut Context<'_>) -> Option<bool> {
    let mut poll = |armed: &mut Option<Pin<Box<Sleep>>>| {
        let sleep = armed.as_mut()?;
        catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(cx).is_ready())).ok()
    };
    poll(armed).or_else(|| {
        // A timer panics after its runtime has ended. If the caller is polled in another runtime then, its wait starts
        // again.
        *armed = timer(after).ok();
        poll(armed)
    })
}

/// The error for a runtime without timers.
pub(crate) fn no_timers() -> Error {
    Error::new(ErrorKind::NoRuntime, "a token request needs timers, and this tokio runtime has none")
        .with_hint("build the runtime with enable_time or enable_all")
}

#[cfg(test)]
mod tests {
    use super::*;

    // R9: a deadline that is polled after the work must not depend on the budget that the work leaves.
    #[tokio::test]
    async fn work_that_uses_up_the_cooperative_budget_does_not_delay_the_deadline() {
        let busy = async {
            for _ in 0..20_000_000 {
                tokio::task::coop::consume_budget().await;
            }
        };
        let mut deadline = timer(Duration::from_millis(5)).unwrap();
        assert_eq!(within(deadline.as_mut(), busy).await, None);
    }
}
