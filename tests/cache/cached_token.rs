//! `token()` of a source with one key returns a fresh token from the cache without a lookup. The result and the statistics are
//! those of a lookup.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tokio::time::{advance, sleep};
use tokio_test::task::{Spawn, spawn};
use tower_bearer_auth::{Error, ExtensionKey, RequestKey, Token, TokenFuture, TokenSource, TokenState};

use crate::common::{Issuer, Outcome, TestClock, User, assert_reconciles, ms, secs, settle};

/// After this time, a token request has reached the issuer.
const HELD: Duration = ms(300);

/// What one poll returns: the generation of the token, or the kind of the error.
fn result_of(poll: Poll<Result<Token, Error>>) -> String {
    match poll {
        Poll::Ready(Ok(token)) => format!("token {}", token.generation()),
        Poll::Ready(Err(error)) => format!("{}", error.kind()),
        Poll::Pending => "pending".into(),
    }
}

/// Polls a new future once. A source whose issuer holds its token requests can return only what is in its cache.
fn poll_once(source: &TokenSource<Issuer>) -> String {
    result_of(spawn(source.token()).poll())
}

/// A source that has fetched one token of half an hour. Later token requests are held.
async fn source_with_one_token() -> (TokenSource<Issuer>, TestClock, Token) {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let token = source.token().await.unwrap();
    issuer.script_always(Outcome::Hold);
    assert_eq!(poll_once(&source), "token 1");
    (source, clock, token)
}

// R34, R40
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_returned_after_its_end_on_either_clock() {
    for jump in [TestClock::mono_forward, TestClock::wall_forward] {
        let (source, clock, _) = source_with_one_token().await;
        // The margin of this lifetime is 30 s.
        jump(&clock, secs(1770));
        assert_eq!(poll_once(&source), "pending");
    }
}

// R50
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_returned_after_rotate_or_invalidate() {
    for remove in [TokenSource::rotate, TokenSource::invalidate] {
        let (source, ..) = source_with_one_token().await;
        remove(&source);
        assert_eq!(poll_once(&source), "pending");
        // The fetch of the old credentials ends after another call has withdrawn its token.
        remove(&source);
        sleep(HELD).await;
        source.provider().release();
        settle().await;
        assert_eq!(poll_once(&source), "pending", "it was fetched before");
    }
}

// R22
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_returned_while_it_is_set_aside_after_a_rejection() {
    let (source, _, token) = source_with_one_token().await;
    source.accept(&token);
    assert!(source.reject(&(), &token));
    assert_eq!(poll_once(&source), "pending");
}

// R45: otherwise nothing would start the fetch, and the requests after the window would wait.
#[tokio::test(start_paused = true)]
async fn a_cached_token_in_its_refresh_window_starts_a_fetch() {
    let (source, clock, _) = source_with_one_token().await;
    clock.mono_forward(secs(1769));
    assert_eq!(poll_once(&source), "token 1", "it is usable");
    sleep(HELD).await;
    assert_eq!(source.provider().requests(), 2);
    assert_reconciles(&source);
}

// R101
#[tokio::test(start_paused = true)]
async fn a_cached_token_is_not_the_result_of_a_refresh() {
    let refresh: fn(&TokenSource<Issuer>) -> TokenFuture<Issuer> = |source| source.refresh(&());
    let longer_than_cached: fn(&TokenSource<Issuer>) -> TokenFuture<Issuer> =
        |source| source.token_valid_for(&(), secs(3600));
    for demand in [refresh, longer_than_cached] {
        let (source, ..) = source_with_one_token().await;
        let mut future = spawn(demand(&source));
        assert!(future.poll().is_pending());
        sleep(HELD).await;
        source.provider().release();
        settle().await;
        assert_eq!(result_of(future.poll()), "token 2");
        assert_reconciles(&source);
    }
}

#[tokio::test(start_paused = true)]
async fn each_cached_token_that_is_returned_counts_as_one_hit() {
    let (source, ..) = source_with_one_token().await;
    let before = source.stats();
    for _ in 0..10 {
        source.token().await.unwrap();
    }
    drop(source.token());
    let mut completed = spawn(source.token());
    assert!(completed.poll().is_ready());
    // A poll after the end is an error of the caller.
    catch_unwind(AssertUnwindSafe(|| completed.poll())).unwrap_err();
    drop(completed);
    let after = assert_reconciles(&source);
    let mut expected = before;
    expected.hits += 11;
    assert_eq!(after, expected);
}

// R2: otherwise the wait of this caller would never end in the statistics.
#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_is_served_by_its_fetch_and_not_by_the_cache() {
    let source = TokenSource::new(Issuer::new());
    let mut waits = spawn(source.token());
    assert!(waits.poll().is_pending());
    source.warm_up().await.unwrap();
    assert_eq!(poll_once(&source), "token 1");
    assert_eq!(result_of(waits.poll()), "token 1");
    drop(waits);
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waits_served, stats.waits_abandoned, stats.waiting), (2, 0, 0));
}

/// A source, and everything that a random run does with it.
struct World<K: RequestKey> {
    issuer: Issuer<K>,
    clock: TestClock,
    source: TokenSource<Issuer<K>>,
    key: K,
    /// Futures that were pending when they were last polled.
    waiting: Vec<Spawn<TokenFuture<Issuer<K>>>>,
    tokens: Vec<Token>,
}

impl<K: RequestKey> World<K> {
    fn new(key: K, seed: u64) -> Self {
        let (issuer, clock) = (Issuer::keyed(), TestClock::new());
        issuer.set_lifetime(secs([4, 60, 600][seed as usize % 3]));
        let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).jitter_seed(seed).build();
        Self { issuer, clock, source, key, waiting: Vec::new(), tokens: Vec::new() }
    }

    fn poll(&mut self, mut future: Spawn<TokenFuture<Issuer<K>>>) -> String {
        let poll = future.poll();
        match &poll {
            Poll::Ready(Ok(token)) => self.tokens.push(token.clone()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.waiting.push(future),
        }
        result_of(poll)
    }

    fn status(&self) -> (TokenState, Option<SystemTime>) {
        let status = self.source.status_for(&self.key);
        (status.state, status.usable_until)
    }

    /// Does what `rng` says, and returns what the caller sees.
    fn step(&mut self, rng: &mut Rng) -> String {
        let by = ms(rng.u64(..30_000));
        let last = self.tokens.last().cloned();
        let nth_waiting = rng.usize(..self.waiting.len().max(1));
        match rng.u32(..60) {
            0 => self.source.rotate(),
            1 => self.source.invalidate_for(&self.key),
            2 => self.clock.mono_forward(by),
            3 => self.clock.wall_forward(by),
            4 => self.clock.mono_back(by),
            5 => self.clock.wall_back(by),
            6 => self.issuer.set_down(rng.u32(..3) == 0),
            7..12 => return last.map_or_else(String::new, |token| self.source.reject(&self.key, &token).to_string()),
            12..16 => last.iter().for_each(|token| self.source.accept(token)),
            16 => return self.poll(spawn(self.source.refresh(&self.key))),
            17 => return self.poll(spawn(self.source.token_valid_for(&self.key, by))),
            18..26 if !self.waiting.is_empty() => {
                let future = self.waiting.swap_remove(nth_waiting);
                return self.poll(future);
            }
            26 if !self.waiting.is_empty() => drop(self.waiting.swap_remove(nth_waiting)),
            _ => return self.poll(spawn(self.source.token_for(&self.key))),
        }
        String::new()
    }
}

// R4, R34, R38, R50: a source with a key type of many values performs a lookup for each call.
#[tokio::test(start_paused = true)]
async fn a_source_with_one_key_returns_what_a_lookup_returns_in_a_random_run() {
    let (mut hits, mut waits, mut failed, mut token_requests) = (0, 0, 0, 0);
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let (mut cached, mut looked_up) = (World::new((), seed), World::<User>::new(ExtensionKey(1), seed));
        for step in 0..400 {
            let mut same = rng.clone();
            let (expected, result) = (looked_up.step(&mut same), cached.step(&mut rng));
            assert_eq!(result, expected, "seed {seed}, step {step}");
            settle().await;
            if rng.u32(..4) == 0 {
                advance(ms(rng.u64(..1000))).await;
                settle().await;
            }
            assert_eq!(cached.source.stats(), looked_up.source.stats(), "seed {seed}, step {step}: {result}");
            assert_eq!(cached.status(), looked_up.status(), "seed {seed}, step {step}: {result}");
        }
        let stats = assert_reconciles(&cached.source);
        hits += stats.hits;
        waits += stats.waits;
        failed += stats.failed_fast + stats.waits_failed;
        token_requests += cached.issuer.requests();
    }
    // Every kind of result is frequent.
    println!("{hits} hits, {waits} waits, {failed} failed, {token_requests} token requests");
    assert!(hits > 1000 && waits > 1000 && failed > 200 && token_requests > 200);
}
