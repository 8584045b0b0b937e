//! The cache: one slot per key, one flight per slot.
//!
//! | file | what it holds |
//! |---|---|
//! | `slot` | one key's state machine, pure |
//! | `flight` | one token request, in a task of its own |
//! | `acquire` | waiting for a flight |
//! | `entry` | a key's slot and its published token |
//! | `map` | the keys, bounded |
//! | `stats`, `status` | what to look at from outside |

mod acquire;
mod builder;
mod entry;
mod flight;
mod map;
mod slot;
mod stats;
mod status;

pub(crate) use self::acquire::Acquire;
pub use self::builder::TokenSourceBuilder;
pub use self::stats::Stats;
pub use self::status::{State, Status};

use std::fmt;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime;
use tokio::time::Sleep;

use self::entry::Entry;
use self::flight::{Arrival, Outcome};
use self::map::Map;
use self::slot::{Jitter, Next, Verdict};
use self::stats::Recorder;
use crate::api::Refusal;
use crate::clock::{Clock, Now};
use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::refresh::RefreshPolicy;
use crate::token::Token;

/// A cache of a provider's tokens, in memory only. Cloning shares the cache.
///
/// It makes at most one token request at a time for each key, in a task of its own: a caller that goes away neither
/// stops nor delays it, and all who wait share its outcome, success or failure. Without requests it does nothing.
///
/// It is what [`BearerAuthLayer`](crate::BearerAuthLayer) asks for tokens, and works alone as well:
///
/// ```
/// use tower_bearer_auth::{Static, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
/// let source = TokenSource::new(Static::new("opaque-token")?);
/// let token = source.token().await?;
/// let request = http::Request::get("https://api.example.com/").header("authorization", token.header_value());
/// # Ok(()) }
/// ```
pub struct TokenSource<P: TokenProvider> {
    inner: Arc<Inner<P>>,
}

pub(crate) struct Inner<P: TokenProvider> {
    provider: Arc<P>,
    policy: RefreshPolicy,
    clock: Arc<dyn Clock>,
    map: Map<P::Key>,
    stats: Recorder,
    rng: Mutex<fastrand::Rng>,
    generations: AtomicU64,
    flights: AtomicU64,
    max_wait: Duration,
    fetch_timeout: Duration,
}

/// A token that may be stamped, and where it came from.
pub(crate) struct Grant<K> {
    entry: Arc<Entry<K>>,
    token: Token,
}

/// What asking for a token comes to at once.
pub(crate) enum Asked<P: TokenProvider> {
    Granted(Grant<P::Key>),
    Wait(Acquire<P>),
    Failed(Error),
}

enum Entered<K> {
    Granted(Grant<K>),
    Wait(Arc<Entry<K>>, Arrival),
    Failed(Error),
}

/// What became of a refused token.
pub(crate) enum Renewal<P: TokenProvider> {
    /// There is a newer one already.
    Ready(Grant<P::Key>),
    /// A flight is in the air.
    Wait(Acquire<P>),
    /// The renewal budget is empty: the token stays.
    Exhausted,
    /// No flight may start, or none can.
    Failed(Error),
}

impl<P: TokenProvider> TokenSource<P> {
    /// A source with the default settings.
    pub fn new(provider: P) -> Self {
        Self::builder(provider).build()
    }

    /// A source with settings of your own.
    pub fn builder(provider: P) -> TokenSourceBuilder<P> {
        TokenSourceBuilder::new(provider)
    }

    /// The token of `key`: at once where there is a usable one, otherwise after the token request that is in the air
    /// or that this call starts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the wait, not the token request.
    ///
    /// # Errors
    ///
    /// The token request's error, the same for all who waited for it. While the issuer is left alone after a failure,
    /// that failure, at once; [`retry_after`](Error::retry_after) is the time until the next try.
    /// [`ErrorKind::Timeout`] past [`max_wait`](TokenSourceBuilder::max_wait), [`ErrorKind::NoRuntime`] outside of a tokio
    /// runtime, [`ErrorKind::Reentrant`] inside of the provider's own `fetch` for this key.
    pub async fn token_for(&self, key: &P::Key) -> Result<Token, Error> {
        self.acquire(key.clone()).await.map(|grant| grant.token)
    }

    /// Makes sure that `key` has a usable token, so that the first request does not wait.
    ///
    /// # Errors
    ///
    /// As [`token_for`](Self::token_for).
    pub async fn warm_up(&self, key: &P::Key) -> Result<(), Error> {
        self.token_for(key).await.map(drop)
    }

    /// The token of `key` if there is a usable one. Never starts a token request.
    #[must_use]
    pub fn peek_for(&self, key: &P::Key) -> Option<Token> {
        self.inner.map.get(key)?.usable(self.inner.clock.now())
    }

    /// Tells the source that the server took `token`. For those who send requests themselves.
    pub fn accept(&self, key: &P::Key, token: &Token) {
        let _ = key;
        token.accept();
    }

    /// Tells the source that the server refused `token` with a 401. For those who send requests themselves.
    ///
    /// A refusal of anything but the current token changes nothing. Otherwise a token request starts, or the one in the
    /// air is joined; if it fails, the token is used again until its end. Returns whether it is worth asking for a token
    /// and sending the request again, once: `false` means that the renewal budget is empty or that the issuer is being
    /// left alone.
    pub fn reject(&self, key: &P::Key, token: &Token) -> bool {
        let Some(entry) = self.inner.map.get(key) else {
            return true;
        };
        let grant = Grant { entry, token: token.clone() };
        matches!(self.refuse(&grant, Refusal::Bare, false), Renewal::Ready(_) | Renewal::Wait(_))
    }

    /// Forgets the token of `key`. A token request in the air becomes stale, and who waits for it moves to a new one.
    ///
    /// No request that begins after this returns is stamped with the token that was current before.
    pub fn invalidate_for(&self, key: &P::Key) {
        if let Some(entry) = self.inner.map.get(key) {
            self.inner.forget(&entry, false);
        }
    }

    /// Says that the credentials have changed: forgets all tokens and failures, and makes token requests in the air
    /// stale.
    ///
    /// No request that begins after this returns is stamped with a token that was asked for with the old credentials,
    /// even if such a token arrives later. Change the credentials first, then call this.
    pub fn rotate(&self) {
        self.inner.map.for_each(|entry| self.inner.forget(entry, true));
    }

    /// Where `key` stands, without I/O.
    #[must_use]
    pub fn status_for(&self, key: &P::Key) -> Status {
        let Some(entry) = self.inner.map.get(key) else {
            return Status::missing();
        };
        let view = entry.lock().view(self.inner.clock.now());
        Status::of(&view)
    }

    /// What the source has done so far, over all keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats.snapshot(self.inner.map.len())
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.inner.provider
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.inner.stats
    }

    fn acquire(&self, key: P::Key) -> Acquire<P> {
        Acquire::start(self.clone(), key)
    }

    /// The cached path: nothing is cloned or boxed where there is a token.
    pub(crate) fn ask(&self, key: P::Key) -> Asked<P> {
        match self.enter(&key) {
            Entered::Granted(grant) => Asked::Granted(grant),
            Entered::Wait(entry, arrival) => Asked::Wait(Acquire::waiting(self.clone(), entry, arrival)),
            // Asked outside of the runtime that will poll the answer.
            Entered::Failed(error) if error.kind() == ErrorKind::NoRuntime => Asked::Wait(self.acquire(key)),
            Entered::Failed(error) => Asked::Failed(error),
        }
    }

    fn enter(&self, key: &P::Key) -> Entered<P::Key> {
        let now = self.inner.clock.now();
        let entry = self.inner.entry(key, now);
        match entry.fresh(now) {
            Some(token) => self.inner.grant(entry, token, now),
            None => self.enter_slow(entry, now),
        }
    }

    fn enter_at(&self, entry: Arc<Entry<P::Key>>) -> Entered<P::Key> {
        let now = self.inner.clock.now();
        self.enter_slow(entry, now)
    }

    fn enter_slow(&self, mut entry: Arc<Entry<P::Key>>, now: Now) -> Entered<P::Key> {
        loop {
            let mut slot = entry.lock();
            if slot.evicted {
                drop(slot);
                entry = self.inner.entry(&entry.key, now);
                continue;
            }
            let stuck = slot.end_stuck_flight(self.inner.longest_flight(), now);
            if stuck.is_some() {
                self.inner.stats.record(|stats| {
                    stats.flights_running -= 1;
                    stats.flights_lost += 1;
                });
            }
            let next = slot.request(now);
            if matches!(next, Next::Fail(_)) {
                self.inner.stats.record(|stats| stats.turned_away += 1);
            }
            let entered = self.follow(&entry, slot, next, now);
            // Dropped outside of the lock: it wakes whoever waited for it.
            drop(stuck);
            return entered;
        }
    }

    /// Does what the slot said, with its lock held on entry.
    fn follow(
        &self,
        entry: &Arc<Entry<P::Key>>,
        slot: parking_lot::MutexGuard<'_, slot::Slot<flight::Handle>>,
        next: Next,
        now: Now,
    ) -> Entered<P::Key> {
        let runtime = runtime::Handle::try_current();
        match (next, runtime) {
            (Next::Stamp(token), _) | (Next::StampAndDepart(token), Err(_)) => {
                drop(slot);
                self.inner.grant(Arc::clone(entry), token, now)
            }
            (Next::StampAndDepart(token), Ok(runtime)) => {
                // Nobody waits for it: the token in hand still works.
                let _ = self.depart(entry, slot, &runtime, now);
                self.inner.grant(Arc::clone(entry), token, now)
            }
            (Next::Fail(error), _) => Entered::Failed(error),
            (Next::Join | Next::Depart, _) if flight::is_fetching(entry) => Entered::Failed(
                Error::new(ErrorKind::Reentrant, "the provider waits for the token that it is fetching")
                    .with_hint("give the provider an HTTP client that this layer does not wrap"),
            ),
            (Next::Join, _) => match slot.flight().map(|flight| flight.handle.arrival()) {
                Some(arrival) => Entered::Wait(Arc::clone(entry), arrival),
                None => Entered::Failed(no_runtime()),
            },
            (Next::Depart, Ok(runtime)) => {
                let arrival = self.depart(entry, slot, &runtime, now);
                Entered::Wait(Arc::clone(entry), arrival)
            }
            (Next::Depart, Err(_)) => Entered::Failed(no_runtime()),
        }
    }

    fn depart(
        &self,
        entry: &Arc<Entry<P::Key>>,
        mut slot: parking_lot::MutexGuard<'_, slot::Slot<flight::Handle>>,
        runtime: &runtime::Handle,
        now: Now,
    ) -> Arrival {
        let id = self.inner.flights.fetch_add(1, Ordering::Relaxed);
        let (handle, flight) = flight::prepare(&self.inner, entry, id);
        let arrival = handle.arrival();
        slot.depart(id, handle, now);
        self.inner.stats.record(|stats| {
            stats.flights += 1;
            stats.flights_running += 1;
        });
        // A runtime that is shutting down drops the flight at once, which takes the lock.
        drop(slot);
        flight.start(runtime);
        arrival
    }

    /// `grant`, or what has replaced its token meanwhile. Asks nobody.
    pub(crate) fn newest(&self, grant: Grant<P::Key>) -> Grant<P::Key> {
        match grant.entry.usable(self.inner.clock.now()) {
            Some(token) => Grant { token, ..grant },
            None => grant,
        }
    }

    /// The server refused the token of `grant`. With `wait` off the renewal starts and nobody waits for it.
    pub(crate) fn refuse(&self, grant: &Grant<P::Key>, refusal: Refusal, wait: bool) -> Renewal<P> {
        let now = self.inner.clock.now();
        let entry = &grant.entry;
        let mut slot = entry.lock();
        let accepted = grant.token.is_accepted();
        let verdict = slot.refuse(grant.token.generation(), refusal, now);
        entry.publish(&slot);
        let entered = match verdict {
            _ if slot.evicted => {
                drop(slot);
                self.enter(&entry.key)
            }
            Verdict::Renew(next) => self.follow(entry, slot, next, now),
            Verdict::Exhausted => {
                drop(slot);
                self.inner.stats.record(|stats| {
                    stats.refusals += 1;
                    stats.refusals_of_unaccepted += u64::from(!accepted);
                    stats.renewals_declined += 1;
                });
                return Renewal::Exhausted;
            }
            Verdict::CoolingDown(error) => Entered::Failed(error),
        };
        self.inner.stats.record(|stats| {
            stats.refusals += 1;
            stats.refusals_of_unaccepted += u64::from(!accepted);
        });
        match entered {
            Entered::Granted(newer) => Renewal::Ready(newer),
            Entered::Wait(entry, arrival) if wait => Renewal::Wait(Acquire::waiting(self.clone(), entry, arrival)),
            Entered::Wait(..) => Renewal::Wait(self.acquire(entry.key.clone())),
            Entered::Failed(error) => Renewal::Failed(error),
        }
    }
}

impl<P: TokenProvider<Key = ()>> TokenSource<P> {
    /// [`token_for`](Self::token_for) the one identity there is.
    ///
    /// # Errors
    ///
    /// As [`token_for`](Self::token_for).
    pub async fn token(&self) -> Result<Token, Error> {
        self.token_for(&()).await
    }

    /// [`peek_for`](Self::peek_for) the one identity there is.
    #[must_use]
    pub fn peek(&self) -> Option<Token> {
        self.peek_for(&())
    }

    /// [`invalidate_for`](Self::invalidate_for) the one identity there is.
    pub fn invalidate(&self) {
        self.invalidate_for(&());
    }

    /// [`status_for`](Self::status_for) the one identity there is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_for(&())
    }
}

impl<P: TokenProvider> Inner<P> {
    fn entry(&self, key: &P::Key, now: Now) -> Arc<Entry<P::Key>> {
        self.map.get_or_insert(key, || {
            let rng = self.rng.lock().fork();
            Entry::new(key.clone(), Jitter::Random(rng), now)
        })
    }

    fn grant(&self, entry: Arc<Entry<P::Key>>, token: Token, now: Now) -> Entered<P::Key> {
        self.stats.hit();
        entry.touch(now);
        Entered::Granted(Grant { entry, token })
    }

    fn forget(&self, entry: &Arc<Entry<P::Key>>, credentials_changed: bool) {
        let mut slot = entry.lock();
        let stale = slot.forget(credentials_changed, self.clock.now());
        entry.publish(&slot);
        if stale.is_some() {
            self.stats.record(|stats| {
                stats.flights_running -= 1;
                stats.flights_stale += 1;
            });
        }
        drop(slot);
        if let Some(flight) = stale {
            flight.finish(Outcome::Moved);
        }
    }

    fn sweep(&self, now: Now) {
        let in_air = self.stats.snapshot(0).flights_running;
        let evicted = self.map.sweep(in_air, now);
        if evicted > 0 {
            self.stats.record(|stats| stats.evicted += evicted as u64);
        }
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A flight that is in the air for longer has a runtime that nobody drives.
    fn longest_flight(&self) -> Duration {
        self.fetch_timeout.saturating_add(Duration::from_secs(3))
    }

    /// Whether a wait has gone past its bound; arms the timer at the first call.
    fn waited_too_long(&self, armed: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
        if armed.is_none() {
            *armed = timer(self.max_wait);
        }
        armed.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

/// A timer of the current runtime; `None` outside of one, or in one whose timers are off, where tokio would panic.
pub(crate) fn timer(after: Duration) -> Option<Pin<Box<Sleep>>> {
    runtime::Handle::try_current().ok()?;
    catch_unwind(AssertUnwindSafe(|| Box::pin(tokio::time::sleep(after)))).ok()
}

fn no_runtime() -> Error {
    Error::new(ErrorKind::NoRuntime, "a token request needs a tokio runtime, and this is none")
        .with_hint("send the request from inside of a tokio runtime")
}

impl<K> Grant<K> {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn key(&self) -> &K {
        &self.entry.key
    }
}

impl<P: TokenProvider> Clone for TokenSource<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenSource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("environment", &self.inner.provider.environment())
            .field("policy", &self.inner.policy)
            .field("keys", &self.inner.map.len())
            .finish_non_exhaustive()
    }
}
