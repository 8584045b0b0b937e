//! What a slot remembers of token requests that came to nothing.

use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::refresh::{self, Pause};

/// The last failure of a token request, and how long it is remembered.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) at: Instant,
    pub(super) pause: Pause,
    /// Whether a refusal of the current token ends the pause.
    pub(super) may_be_cut: bool,
}

impl Failure {
    pub(super) fn remaining(&self, with_token: bool, now: Now) -> Duration {
        let length = if with_token { self.pause.with_token } else { self.pause.without_token };
        refresh::remaining(self.at, length, now.mono)
    }

    pub(super) fn runs(&self, with_token: bool, now: Now) -> bool {
        !self.remaining(with_token, now).is_zero()
    }

    /// The error as callers see it: with the time until the next try.
    pub(super) fn shared(&self, with_token: bool, now: Now) -> Error {
        self.error.clone().with_retry_after(self.remaining(with_token, now))
    }
}

/// Flights in a row whose runtime took them along, and the pause after the last of them.
#[derive(Debug, Default)]
pub(super) struct Losses {
    in_a_row: u32,
    last: Option<(Instant, Pause)>,
}

impl Losses {
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// The first loss keeps nobody waiting: a runtime that ends once is no pattern.
    pub(super) fn add(&mut self, mut pause: Pause, now: Now) {
        if self.in_a_row == 0 {
            pause.without_token = Duration::ZERO;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some((now.mono, pause));
    }

    /// While losses keep flights from starting: what to say to who needs one.
    pub(super) fn pause(&self, with_token: bool, now: Now) -> Option<Error> {
        let (since, pause) = self.last.as_ref()?;
        let length = if with_token { pause.with_token } else { pause.without_token };
        let left = refresh::remaining(*since, length, now.mono);
        if left.is_zero() {
            return None;
        }
        let error = Error::new(ErrorKind::Unavailable, "the last token requests were lost with their tokio runtimes");
        Some(error.with_hint("send requests from a runtime that outlives them").with_retry_after(left))
    }
}
