//! Constructors and settings of a source.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::cache::Cache;
use super::handle::TokenSource;
use super::map::Map;
use super::rotations::Rotations;
use super::stats::Recorder;
use crate::clock::{AnyClock, Clock};
use crate::provider::TokenProvider;
use crate::refresh::{self, RefreshPolicy};
use crate::telemetry::Telemetry;

const MAX_KEYS: usize = 10_000;
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Longer than the providers' own timeout for the HTTP request of a fetch, 10 s, so that its error arrives first.
const FETCH_TIMEOUT: Duration = Duration::from_secs(12);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl<P: TokenProvider> TokenSource<P> {
    /// A source with the default settings.
    pub fn new(provider: P) -> Self {
        Self::builder(provider).build()
    }

    /// A source with other settings.
    pub fn builder(provider: P) -> TokenSourceBuilder<P> {
        TokenSourceBuilder::new(provider)
    }
}

/// Builds a [`TokenSource`]. It spawns no task, and it fetches no token before a request needs one.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer_auth::{FixedToken, RefreshPolicy, TokenSource};
///
/// let source = TokenSource::builder(FixedToken::new("opaque-token")?)
///     .refresh(RefreshPolicy::new().window(Duration::from_secs(300)))
///     .max_wait(Duration::from_secs(5))
///     .build();
/// # drop(source);
/// # Ok::<(), tower_bearer_auth::Error>(())
/// ```
#[must_use]
pub struct TokenSourceBuilder<P> {
    provider: P,
    policy: RefreshPolicy,
    clock: AnyClock,
    max_keys: usize,
    max_wait: Duration,
    patience: Duration,
    fetch_timeout: Duration,
    seed: Option<u64>,
}

impl<P: TokenProvider> TokenSourceBuilder<P> {
    fn new(provider: P) -> Self {
        Self {
            provider,
            policy: RefreshPolicy::default(),
            clock: AnyClock::System,
            max_keys: MAX_KEYS,
            max_wait: MAX_WAIT,
            patience: refresh::DEFAULT_PATIENCE,
            fetch_timeout: FETCH_TIMEOUT,
            seed: None,
        }
    }

    /// Sets when tokens are refreshed. The default is [`RefreshPolicy::default`].
    pub fn refresh(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the clock. The default is [`SystemClock`](crate::SystemClock). Timeouts do not use it: they are tokio's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = AnyClock::Given(Arc::new(clock));
        self
    }

    /// Sets how many keys the cache holds. The default is 10 000, the minimum 1. Keys with a running fetch do not
    /// count.
    ///
    /// Above the limit, the source evicts keys in this order, and the least recently used ones (to 10 ms) first in each
    /// group:
    ///
    /// 1. keys that have never had a token, if they hold more than an eighth of the limit, and more than one;
    /// 2. keys without a usable token, for example because it has expired;
    /// 3. keys with a usable token;
    /// 4. keys that protect the issuer, with or without a usable token: those in a backoff, or with a budget for
    ///    refreshes that is not full.
    ///
    /// The eighth is a limit of its own: keys of the first group are evicted above it, even if the cache is not full. So
    /// invented keys evict no tokens. A key is never evicted while its fetch runs.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys.max(1);
        self
    }

    /// Sets how long one request waits for tokens. The default is 15 seconds.
    ///
    /// A request that is rejected and replayed may wait twice. The limit is for both waits together. If the second wait
    /// reaches it, the caller gets the rejection. If the first one does, the request fails with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). In both cases the fetch continues.
    ///
    /// A [`Deadline`](crate::Deadline) of the request or its `grpc-timeout` can end its waits earlier. Above 49 days, 49 days count.
    #[doc(alias = "timeout")]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets how long a request without a usable token waits for a transient failure to pass. The default is 2 seconds, and
    /// zero turns the wait off.
    ///
    /// After a transient failure, such a request waits for the next fetch if the backoff ends within this time from the start
    /// of the first failed fetch, and within [`max_wait`](Self::max_wait). So one quick 503 at startup fails no request, and
    /// in a long outage requests fail fast. A 503 with a `Retry-After` of 2 s or more, and a timeout, do fail requests. No
    /// request waits through the backoff after a panic or a permanent failure.
    ///
    /// Zero does not affect the wait for a running fetch, which lasts up to `max_wait`.
    ///
    /// [`warm_up`](TokenSource::warm_up) waits through transient failures for all of `max_wait`.
    ///
    /// The wait costs token requests: at the start of an outage, a key that is requested rarely causes up to 3.7 of them on
    /// average, and not one.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long the provider's [`fetch`](TokenProvider::fetch) may take. The default is 12 seconds.
    ///
    /// After that the source drops the future, and all its waiters get
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    #[doc(alias = "timeout")]
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = timeout;
        self
    }

    /// Sets the seed of all random numbers, to make a simulation repeatable. The default is a random seed.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the source.
    #[must_use]
    pub fn build(self) -> TokenSource<P> {
        let rng = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let telemetry = Telemetry::new(self.provider.label());
        TokenSource {
            cache: Arc::new(Cache {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                provider: Arc::new(self.provider),
                policy: self.policy,
                clock: self.clock,
                map: Map::new(self.max_keys),
                stats: Recorder::default(),
                telemetry,
                rng: Mutex::new(rng),
                generations: AtomicU64::new(0),
                rotations: Rotations::new(),
                fetches: AtomicU64::new(0),
                fetch_took: AtomicU64::new(0),
                max_wait: self.max_wait,
                patience: self.patience,
                fetch_timeout: self.fetch_timeout,
            }),
        }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenSourceBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSourceBuilder")
            .field("provider", &self.provider.label())
            .field("policy", &self.policy)
            .field("max_keys", &self.max_keys)
            .field("max_wait", &self.max_wait)
            .field("patience", &self.patience)
            .field("fetch_timeout", &self.fetch_timeout)
            .finish_non_exhaustive()
    }
}
