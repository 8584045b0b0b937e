//! The settings of a source.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::map::Map;
use super::stats::Recorder;
use super::{Inner, TokenSource};
use crate::clock::{AnyClock, Clock};
use crate::provider::TokenProvider;
use crate::refresh::RefreshPolicy;
use crate::telemetry::Telemetry;

const MAX_KEYS: usize = 10_000;
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Longer than the token call's own timeout of 10 s, so that the inner one names the cause.
const FETCH_TIMEOUT: Duration = Duration::from_secs(12);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Builds a [`TokenSource`]. Nothing is spawned and no token is asked for before a request needs one.
#[must_use]
pub struct TokenSourceBuilder<P> {
    provider: P,
    policy: RefreshPolicy,
    clock: AnyClock,
    max_keys: usize,
    max_wait: Duration,
    fetch_timeout: Duration,
    seed: Option<u64>,
}

impl<P: TokenProvider> TokenSourceBuilder<P> {
    pub(super) fn new(provider: P) -> Self {
        Self {
            provider,
            policy: RefreshPolicy::default(),
            clock: AnyClock::System,
            max_keys: MAX_KEYS,
            max_wait: MAX_WAIT,
            fetch_timeout: FETCH_TIMEOUT,
            seed: None,
        }
    }

    /// When tokens are renewed. By default [`RefreshPolicy::default`].
    pub fn refresh(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Where the time comes from. By default [`SystemClock`](crate::SystemClock). Timeouts are tokio's in any case.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = AnyClock::Given(Arc::new(clock));
        self
    }

    /// How many keys are kept, beside those with a token request in the air; 10 000 by default, at least 1.
    ///
    /// Thrown out first are keys whose token has expired, then the least recently used, to the second. A key whose
    /// failures or refusals are being counted goes last.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys.max(1);
        self
    }

    /// How long one request waits for a token; 15 s by default. Past it the request fails, and the token request goes on.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How long the provider's `fetch` may take; 12 s by default. Past it it is dropped.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = timeout;
        self
    }

    /// Fixes the seed of all jitter, for simulations that are to be repeated. By default it is random.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The source.
    #[must_use]
    pub fn build(self) -> TokenSource<P> {
        let rng = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let telemetry = Telemetry::new(self.provider.label());
        TokenSource {
            inner: Arc::new(Inner {
                provider: Arc::new(self.provider),
                policy: self.policy,
                clock: self.clock,
                map: Map::new(self.max_keys),
                stats: Recorder::default(),
                telemetry,
                rng: Mutex::new(rng),
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                generations: AtomicU64::new(0),
                rotations: AtomicU64::new(0),
                flights: AtomicU64::new(0),
                max_wait: self.max_wait,
                fetch_timeout: self.fetch_timeout,
            }),
        }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenSourceBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSourceBuilder")
            .field("environment", &self.provider.label())
            .field("policy", &self.policy)
            .field("max_keys", &self.max_keys)
            .field("max_wait", &self.max_wait)
            .field("fetch_timeout", &self.fetch_timeout)
            .finish_non_exhaustive()
    }
}
