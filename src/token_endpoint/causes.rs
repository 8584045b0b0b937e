//! The chain of an error's sources.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use crate::error::{MAX_SOURCES, contents};

/// The length limit of a cause, in characters. A certificate can name any number of hosts.
const MAX_CAUSE: usize = 300;

/// The error and its sources, in order, with the errors inside of I/O errors. There is a limit, because an error may be its
/// own source.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |error: &&'a (dyn StdError + 'static)| contents(*error).or_else(|| (*error).source()))
        .take(MAX_SOURCES + 1)
}

/// Whether the error was caused by an I/O timeout.
pub(super) fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut))
}

/// The error and its sources in one line.
pub(super) fn in_one_line(error: &(dyn StdError + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let text = cause.to_string();
        // An I/O error prints what it contains.
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    line.chars().take(MAX_CAUSE).collect()
}
