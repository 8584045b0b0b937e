//! An in-process issuer that counts the token requests it gets.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_bearer_auth::{
    Error, ErrorKind, FetchContext, FromExtension, IssuedToken, RequestKey, SourceStats, TokenProvider, TokenSource,
};

use crate::common::{ms, secs, tokio_now};

/// What the issuer does with a token request after its latency.
#[derive(Clone)]
pub(crate) enum Does {
    /// Returns a new token: `credential.number`, or `credential.key.number`.
    Mint,
    /// Returns this token.
    Return(&'static str),
    Fail(Error),
    Panic(&'static str),
    /// Panics in `fetch` itself, before there is a future.
    PanicAtOnce(&'static str),
    Hang,
}

/// An in-process issuer that counts the token requests it gets. A clone is the same issuer.
pub(crate) struct Issuer<K = ()> {
    state: Arc<Mutex<State>>,
    key: PhantomData<fn() -> K>,
}

pub(crate) type User = FromExtension<u32>;

struct State {
    opened: tokio::time::Instant,
    latency: Duration,
    slow: BTreeMap<String, Duration>,
    lifetime: Option<Duration>,
    credential: String,
    does: Does,
    script: VecDeque<Does>,
    started: Vec<(Duration, String)>,
    ended: Vec<Duration>,
    in_flight: BTreeMap<String, usize>,
    most_at_once: usize,
    dropped: usize,
}

/// A token request that the issuer has not responded to.
struct PendingRequest {
    state: Arc<Mutex<State>>,
    key: String,
    responded: bool,
}

impl<K> Clone for Issuer<K> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), key: PhantomData }
    }
}

impl Issuer {
    /// Returns a token that lives 30 min after 200 ms.
    pub(crate) fn new() -> Self {
        Self::open()
    }
}

impl Issuer<User> {
    /// The same, with one token per user.
    pub(crate) fn for_users() -> Self {
        Self::open()
    }
}

impl<K> Issuer<K> {
    fn open() -> Self {
        let state = State {
            opened: tokio_now(),
            latency: ms(200),
            slow: BTreeMap::new(),
            lifetime: Some(secs(1800)),
            credential: "first".into(),
            does: Does::Mint,
            script: VecDeque::new(),
            started: Vec::new(),
            ended: Vec::new(),
            in_flight: BTreeMap::new(),
            most_at_once: 0,
            dropped: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), key: PhantomData }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock().unwrap())
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.set(|state| state.latency = latency);
    }

    pub(crate) fn latency_for(&self, key: impl Debug, latency: Duration) {
        self.set(|state| {
            state.slow.insert(format!("{key:?}"), latency);
        });
    }

    pub(crate) fn lifetime(&self, lifetime: Duration) {
        self.set(|state| state.lifetime = Some(lifetime));
    }

    /// Sets what happens from now on, after the script.
    pub(crate) fn does(&self, does: Does) {
        self.set(|state| state.does = does);
    }

    /// Appends one step to the script.
    pub(crate) fn then(&self, does: Does) {
        self.set(|state| state.script.push_back(does));
    }

    /// Sets the credential for later token requests. It is part of the tokens.
    pub(crate) fn credential(&self, credential: &str) {
        self.set(|state| state.credential = credential.into());
    }

    pub(crate) fn requests(&self) -> usize {
        self.read(|state| state.started.len())
    }

    pub(crate) fn requests_for(&self, key: impl Debug) -> usize {
        let key = format!("{key:?}");
        self.read(|state| state.started.iter().filter(|(_, other)| *other == key).count())
    }

    /// When token requests started, from the creation of the issuer.
    pub(crate) fn started(&self) -> Vec<Duration> {
        self.read(|state| state.started.iter().map(|(at, _)| *at).collect())
    }

    /// When token requests ended: with a response, or because they were dropped.
    pub(crate) fn ended(&self) -> Vec<Duration> {
        self.read(|state| state.ended.clone())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.read(|state| state.in_flight.values().sum())
    }

    /// The largest number of token requests for one key at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.read(|state| state.most_at_once)
    }

    /// Token requests that were dropped before their response.
    pub(crate) fn dropped(&self) -> usize {
        self.read(|state| state.dropped)
    }

    fn begin(&self, key: String) -> (PendingRequest, Duration, Option<Duration>, Does) {
        let mut state = self.state.lock().unwrap();
        let at = state.now();
        state.started.push((at, key.clone()));
        let in_flight = state.in_flight.entry(key.clone()).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        state.most_at_once = state.most_at_once.max(in_flight);
        let number = state.started.len();
        let latency = state.slow.get(&key).copied().unwrap_or(state.latency);
        let (lifetime, mut does) = (state.lifetime, state.script.pop_front().unwrap_or_else(|| state.does.clone()));
        if let Does::Mint = does {
            let credential = &state.credential;
            let named = if key == "()" {
                format!("{credential}.{number}")
            } else {
                format!("{credential}.{}.{number}", digits(&key))
            };
            does = Does::Return(named.leak());
        }
        drop(state);
        (PendingRequest { state: Arc::clone(&self.state), key, responded: false }, latency, lifetime, does)
    }
}

fn digits(key: &str) -> String {
    key.chars().filter(char::is_ascii_digit).collect()
}

impl State {
    fn now(&self) -> Duration {
        tokio_now().duration_since(self.opened)
    }
}

impl PendingRequest {
    fn respond(mut self) {
        self.responded = true;
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap();
        let at = state.now();
        state.ended.push(at);
        state.dropped += usize::from(!self.responded);
        *state.in_flight.get_mut(&self.key).unwrap() -= 1;
    }
}

impl<K: RequestKey> TokenProvider for Issuer<K> {
    type Key = K;

    fn fetch(&self, key: &K, _: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        let (request, latency, lifetime, does) = self.begin(format!("{key:?}"));
        if let Does::PanicAtOnce(message) = does {
            request.respond();
            panic!("{message}");
        }
        async move {
            // This also works in a runtime without timers.
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let response = match does {
                Does::Mint | Does::PanicAtOnce(_) => unreachable!("replaced when the request started"),
                Does::Return(secret) => IssuedToken::bearer(secret).map(|token| match lifetime {
                    Some(lifetime) => token.expires_in(lifetime),
                    None => token,
                }),
                Does::Fail(error) => Err(error),
                Does::Panic(message) => {
                    request.respond();
                    panic!("{message}");
                }
                Does::Hang => std::future::pending().await,
            };
            request.respond();
            response
        }
    }
}

/// The error of an issuer that is down.
pub(crate) fn unavailable() -> Error {
    Error::transient("503").with_kind(ErrorKind::Unavailable).with_status(http::StatusCode::SERVICE_UNAVAILABLE)
}

/// Asserts both sums of the statistics, and that the source and the issuer counted the same.
#[track_caller]
pub(crate) fn assert_reconciles<K: RequestKey>(source: &TokenSource<Issuer<K>>) -> SourceStats {
    let stats = source.stats();
    let waits = stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting;
    assert_eq!(stats.waits, waits, "{stats:?}");
    let fetches = stats.fetches_succeeded
        + stats.fetches_failed
        + stats.fetches_cancelled
        + stats.fetches_stale
        + stats.fetches_in_flight;
    assert_eq!(stats.fetches, fetches, "{stats:?}");
    assert_eq!(stats.fetches, source.provider().requests() as u64, "{stats:?}");
    stats
}
