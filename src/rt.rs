//! The tokio runtime and its timers.
//!
//! Only this module checks whether there is a runtime and whether it has timers. Tokio has no function for the second
//! check: a timer panics in a runtime that has none.

use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::error::{Error, ErrorKind};

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
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map(|()| current).map_err(|_| no_timers())
}

/// A timer of the current runtime.
///
/// # Errors
///
/// [`ErrorKind::NoRuntime`] outside of a runtime, and in one without timers.
pub(crate) fn timer(after: Duration) -> Result<Pin<Box<Sleep>>, Error> {
    current()?;
    catch_unwind(AssertUnwindSafe(|| Box::pin(tokio::time::sleep(after)))).map_err(|_| no_timers())
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

fn no_timers() -> Error {
    Error::new(ErrorKind::NoRuntime, "a token request needs timers, and this tokio runtime has none")
        .with_hint("build the runtime with enable_time or enable_all")
}
