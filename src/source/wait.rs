//! Waiting for a fetch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::panicking;
use std::time::Duration;

use tokio::time::Sleep;

use super::action::{Patience, Wanted};
use super::cache::Cache;
use super::entry::Entry;
use super::fetch_handle::{FetchOutcome, OutcomeReceiver};
use super::grant::{Awaited, Grant, Lookup};
use super::lookup::Query;
use super::slot::is_usable;
use super::waited::Waited;
use crate::clock::{self, Deadline};
use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::rt;
use crate::telemetry::Stopwatch;
use crate::token::Token;

/// After this many cancelled fetches that it started, a waiter gives up: its runtime is shutting down.
const MAX_CANCELLED: u8 = 3;

/// The future of a token. It looks the token up, and waits if there is none.
///
/// Dropping it does not stop the fetch that it waits for.
#[must_use]
pub(crate) struct TokenWait<P: TokenProvider> {
    cache: Arc<Cache<P>>,
    state: State<P::Key>,
}

enum State<K> {
    /// Not polled yet.
    Start(K, Ask),
    /// Not polled yet; the key has an entry.
    StartWith(Arc<Entry<K>>, Ask),
    Waiting(Waiting<K>),
    Done(Waited),
}

/// What a caller asks for.
#[derive(Clone, Copy)]
struct Ask {
    wanted: Wanted,
    /// Whether the caller waits through backoffs of any length.
    warm_up: bool,
    /// The earlier waits of the same request.
    waited: Waited,
    ends_by: EndsBy,
}

/// What limits a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndsBy {
    /// The request was not asked for its deadline. Until then it is `max_wait`.
    Unknown,
    MaxWait,
    Deadline,
}

struct Waiting<K> {
    entry: Arc<Entry<K>>,
    outcome: OutcomeReceiver,
    /// Fires when `max_wait` has passed, or after `look_again`.
    timer: Option<Pin<Box<Sleep>>>,
    /// Look the token up again after so many ms; 0 if only the outcome counts.
    look_again: u32,
    /// Whether the deadline may end before a backoff that this waits for. The first lookup did not know the deadline, so the
    /// next poll repeats it.
    look_now: bool,
    /// The waits before the one that `timer` measures.
    waited: Waited,
    /// Whether this waiter started the fetch, in its own runtime.
    started_here: bool,
    /// How many fetches that this waiter started were cancelled.
    cancelled: u8,
    /// Whether the caller cannot use the current token, for example because it was rejected.
    needs_new: bool,
    warm_up: bool,
    ends_by: EndsBy,
    /// Whether a fetch has returned a token that was no longer current.
    had_token: bool,
    since: Stopwatch,
}

impl<P: TokenProvider> TokenWait<P> {
    pub(super) fn for_key(cache: Arc<Cache<P>>, key: P::Key, wanted: Wanted, warm_up: bool) -> Self {
        let ask = Ask { wanted, warm_up, waited: Waited::default(), ends_by: EndsBy::Unknown };
        Self { cache, state: State::Start(key, ask) }
    }

    pub(super) fn for_entry(cache: Arc<Cache<P>>, entry: Arc<Entry<P::Key>>) -> Self {
        let ask = Ask { wanted: Wanted::Usable, warm_up: false, waited: Waited::default(), ends_by: EndsBy::Unknown };
        Self { cache, state: State::StartWith(entry, ask) }
    }

    /// Counts earlier waits of the same request toward the limit of this one.
    pub(crate) fn after(mut self, earlier: Waited) -> Self {
        match &mut self.state {
            State::Start(_, ask) | State::StartWith(_, ask) => ask.waited = earlier,
            State::Waiting(waiting) => waiting.waited = earlier,
            State::Done(waited) => *waited = earlier,
        }
        self
    }

    /// Ends the wait at `deadline`, unless `max_wait` ends it before.
    pub(crate) fn until(mut self, deadline: Option<Deadline>) -> Self {
        self.ask_deadline(|| deadline);
        self
    }

    /// The same, if there was no call before.
    pub(crate) fn ask_deadline(&mut self, deadline: impl FnOnce() -> Option<Deadline>) {
        let max_wait = self.cache.max_wait;
        let (waited, ends_by) = match &mut self.state {
            State::Start(_, ask) | State::StartWith(_, ask) => (&mut ask.waited, &mut ask.ends_by),
            State::Waiting(waiting) => (&mut waiting.waited, &mut waiting.ends_by),
            State::Done(_) => return,
        };
        if *ends_by == EndsBy::Unknown {
            *ends_by = EndsBy::MaxWait;
            if let Some(left) = deadline().map(Deadline::left)
                && left < waited.left_of(max_wait)
            {
                (*waited, *ends_by) = (Waited::all_but(left, max_wait), EndsBy::Deadline);
                if let State::Waiting(waiting) = &mut self.state {
                    waiting.look_now = left < Duration::from_millis(waiting.look_again.into());
                }
            }
        }
    }

    /// For how long the request has waited, if this wait is over.
    pub(crate) fn waited(&self) -> Waited {
        if let State::Done(waited) = self.state { waited } else { Waited::default() }
    }

    /// Waits for `awaited`. From here on this counts as a wait.
    pub(super) fn joined(cache: Arc<Cache<P>>, awaited: Awaited<P::Key>) -> Self {
        let Awaited { entry, outcome, look_again, started_here, needs_new } = awaited;
        cache.stats.record(|stats| {
            stats.waits += 1;
            stats.waiting += 1;
        });
        let since = Stopwatch::start(|| cache.clock.now().mono);
        let waiting = Waiting {
            entry,
            outcome,
            timer: None,
            look_again: if needs_new { 0 } else { look_again.map_or(0, rounded_up) },
            look_now: false,
            waited: Waited::default(),
            started_here,
            cancelled: 0,
            needs_new,
            warm_up: false,
            ends_by: EndsBy::Unknown,
            had_token: false,
            since,
        };
        Self { cache, state: State::Waiting(waiting) }
    }

    /// The token of a provider with one key, if it is fresh and there was no lookup before. A lookup would return the same, but
    /// takes longer, because its result has a reference to the entry.
    pub(super) fn take_cached(&mut self) -> Option<Token> {
        let State::Start(_, Ask { wanted: Wanted::Usable, waited, .. }) = self.state else { return None };
        let token = self.cache.map.single()?.fresh(self.cache.clock.recent())?;
        self.cache.stats.hit();
        self.state = State::Done(waited);
        Some(token)
    }

    /// Performs the first lookup. Returns `None` if there is something to wait for.
    fn start(&mut self, ask: Ask) -> Option<Result<Grant<P::Key>, Error>> {
        let query = Query { wanted: ask.wanted, patience: self.cache.patience_of(ask.warm_up, ask.waited) };
        let result = match &self.state {
            State::Start(key, _) => self.cache.lookup(key, query),
            State::StartWith(entry, _) => self.cache.lookup(&entry.key, query),
            State::Waiting(_) | State::Done(_) => return None,
        };
        let result = match result {
            Lookup::Granted(grant) => Ok(grant),
            Lookup::Failed(error) => Err(error),
            Lookup::Wait(awaited) => {
                let on_demand = !matches!(ask.wanted, Wanted::Usable);
                let needs_new = on_demand && awaited.entry.usable(self.cache.clock.now()).is_some();
                let awaited = Awaited { needs_new, ..awaited };
                let mut wait = Self::joined(Arc::clone(&self.cache), awaited).after(ask.waited);
                if let State::Waiting(waiting) = &mut wait.state {
                    (waiting.warm_up, waiting.ends_by) = (ask.warm_up, ask.ends_by);
                }
                *self = wait;
                return None;
            }
        };
        self.state = State::Done(ask.waited);
        Some(result)
    }

    fn finish(&mut self, result: Result<Grant<P::Key>, Error>) -> Poll<Result<Grant<P::Key>, Error>> {
        let waited =
            if let State::Waiting(waiting) = &self.state { waiting.waited(&self.cache) } else { Waited::default() };
        let state = std::mem::replace(&mut self.state, State::Done(waited));
        self.cache.stats.record(|stats| {
            stats.waiting -= 1;
            *(if result.is_ok() { &mut stats.waits_served } else { &mut stats.waits_failed }) += 1;
        });
        if let State::Waiting(waiting) = state {
            self.cache.report_wait(if result.is_ok() { "served" } else { "failed" }, &waiting.since);
        }
        Poll::Ready(result)
    }
}

impl<P: TokenProvider> Cache<P> {
    fn patience_of(&self, warm_up: bool, waited: Waited) -> Patience {
        let patience = self.patience(waited.left_of(self.max_wait));
        if warm_up { Patience { limit: None, ..patience } } else { patience }
    }
}

fn timed_out(ends_by: EndsBy) -> Error {
    if ends_by == EndsBy::Deadline {
        return Error::at_deadline();
    }
    Error::new(ErrorKind::Timeout, "no token arrived in time")
        .with_hint("the token request continues; a later call may get its token")
}

/// In ms. Not rounded down, because a lookup that comes too early waits once more.
fn rounded_up(time: Duration) -> u32 {
    let ms = time.as_nanos().div_ceil(1_000_000).max(1);
    u32::try_from(ms).unwrap_or(u32::MAX)
}

impl<K> Waiting<K> {
    /// How long the timer runs.
    fn limit(&self, max_wait: Duration) -> Duration {
        let left = self.waited.left_of(max_wait);
        if self.look_again == 0 { left } else { left.min(Duration::from_millis(self.look_again.into())) }
    }

    /// For how long the request has waited until now, in all its waits.
    fn waited<P: TokenProvider<Key = K>>(&self, cache: &Cache<P>) -> Waited {
        // Without a timer, the wait ended at its first poll.
        let Some(timer) = &self.timer else { return self.waited };
        self.waited.and(clock::since_start_of_timer(timer.deadline(), self.limit(cache.max_wait)))
    }

    /// Waits for something else.
    fn wait_for<P: TokenProvider<Key = K>>(&mut self, awaited: Awaited<K>, cache: &Cache<P>) {
        let Awaited { entry, outcome, look_again, started_here, needs_new: _ } = awaited;
        let look_again = look_again.map_or(0, rounded_up);
        if self.look_again != 0 || look_again != 0 {
            self.waited = self.waited(cache);
            self.timer = None;
            self.look_again = look_again;
        }
        (self.entry, self.outcome, self.started_here) = (entry, outcome, started_here);
    }

    /// Whether this waiter may use the token that its fetch returned.
    ///
    /// It looks for a newer token once. After that it may use a token that was replaced or withdrawn since it arrived: the
    /// caller began to wait before that. Otherwise a loop of `rotate` would starve it.
    fn may_use<P: TokenProvider<Key = K>>(&mut self, token: &Token, cache: &Cache<P>) -> bool {
        let now = cache.clock.now();
        if now.reached(&token.deadlines().expires_at) {
            return false;
        }
        let is_current = token.is_for_waiters_only() || is_usable(token, now) && self.entry.is_current(token);
        is_current && !cache.is_withdrawn(token) || std::mem::replace(&mut self.had_token, true)
    }
}

// No field is pinned.
impl<P: TokenProvider> Unpin for TokenWait<P> {}

impl<P: TokenProvider> Future for TokenWait<P> {
    type Output = Result<Grant<P::Key>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let started = match this.state {
            State::Start(_, ask) | State::StartWith(_, ask) => this.start(ask),
            State::Waiting(_) => None,
            State::Done(_) => panic!("the future of a token was polled after it had completed"),
        };
        if let Some(result) = started {
            return Poll::Ready(result);
        }
        loop {
            let State::Waiting(waiting) = &mut this.state else {
                return Poll::Pending;
            };
            let cache = &this.cache;
            let mut failure = None;
            match waiting.outcome.poll(cx) {
                Poll::Ready(Some(FetchOutcome::Completed(Ok(token)))) => {
                    if waiting.may_use(&token, cache) {
                        let entry = Arc::clone(&waiting.entry);
                        return this.finish(Ok(Grant { entry, token }));
                    }
                }
                Poll::Ready(Some(FetchOutcome::Completed(Err(error)))) => failure = Some(error),
                Poll::Ready(Some(FetchOutcome::LookAgain)) => {}
                Poll::Ready(None) => waiting.cancelled += u8::from(waiting.started_here),
                Poll::Pending if std::mem::take(&mut waiting.look_now) => {}
                Poll::Pending => {
                    let limit = waiting.limit(cache.max_wait);
                    if !rt::has_passed(&mut waiting.timer, limit, cx).unwrap_or(false) {
                        return Poll::Pending;
                    }
                    waiting.waited = waiting.waited(cache);
                    waiting.timer = None;
                    if waiting.waited.left_of(cache.max_wait).is_zero() {
                        // A token that is only set aside is better than no token.
                        let usable = if waiting.needs_new { None } else { cache.usable_or_set_aside(&waiting.entry) };
                        let ends_by = waiting.ends_by;
                        return this.finish(usable.ok_or_else(|| timed_out(ends_by)));
                    }
                    if cache.is_awaited(&waiting.entry, &waiting.outcome) {
                        waiting.look_again = 0;
                        continue;
                    }
                }
            }
            if waiting.cancelled >= MAX_CANCELLED {
                return this.finish(Err(Error::new(ErrorKind::NoRuntime, "the tokio runtime is shutting down")
                    .with_hint("send the request from a runtime that keeps running")));
            }
            let patience = cache.patience_of(waiting.warm_up, waiting.waited(cache));
            let query = Query { wanted: Wanted::Usable, patience };
            let result = match failure {
                Some(error) if waiting.needs_new => Lookup::Failed(error),
                Some(error) => cache.after_failure(&waiting.entry, query, error),
                None => cache.lookup_again(Arc::clone(&waiting.entry), query),
            };
            match result {
                Lookup::Granted(grant) => return this.finish(Ok(grant)),
                Lookup::Failed(error) => return this.finish(Err(error)),
                Lookup::Wait(awaited) => waiting.wait_for(awaited, cache),
            }
        }
    }
}

impl<P: TokenProvider> Drop for TokenWait<P> {
    fn drop(&mut self) {
        if let State::Waiting(waiting) = &self.state {
            self.cache.stats.record(|stats| {
                stats.waiting -= 1;
                stats.waits_abandoned += 1;
            });
            // If a subscriber panicked while another panic unwinds, the process would abort.
            if !panicking() {
                self.cache.report_wait("abandoned", &waiting.since);
            }
        }
    }
}
