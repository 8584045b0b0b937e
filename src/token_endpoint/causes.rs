//! The chain of an error's sources.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use crate::error::MAX_SOURCES;

/// The error and its sources, in order. There is a limit, because an error may be its own source.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source()).take(MAX_SOURCES + 1)
}

/// Whether the error was caused by an I/O timeout.
pub(super) fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut))
}
