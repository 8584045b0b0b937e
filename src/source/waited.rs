//! For how long a request has waited.

use std::time::Duration;

/// For how long a request has waited for tokens, in ms. `max_wait` limits the sum of all waits of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited(u32);

/// The longest time that [`Waited`] can represent: 49 days.
const MAX_WAITED: Duration = Duration::from_millis(u32::MAX as u64);

impl Waited {
    /// As if the request had waited for all of `max_wait` except for `left`.
    pub(super) fn all_but(left: Duration, max_wait: Duration) -> Self {
        let ms = max_wait.min(MAX_WAITED).saturating_sub(left).as_millis();
        Self(u32::try_from(ms).unwrap_or(u32::MAX))
    }

    /// Adds a wait.
    pub(super) fn and(self, wait: Duration) -> Self {
        // Not rounded down, or many short waits together would count as none.
        let ms = u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// What is left of `max_wait`.
    pub(super) fn left_of(self, max_wait: Duration) -> Duration {
        max_wait.min(MAX_WAITED).saturating_sub(Duration::from_millis(self.0.into()))
    }
}
