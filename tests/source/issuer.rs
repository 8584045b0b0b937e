//! An issuer in-process, which counts at its own end.

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

/// What the issuer does with a token request, once its latency is over.
#[derive(Clone)]
pub(crate) enum Does {
    /// Hands out a token that no other has: `credential.number`, or `credential.key.number`.
    Mint,
    /// Hands out this one.
    Hand(&'static str),
    Fail(Error),
    Panic(&'static str),
    /// Panics in `fetch` itself, before there is a future.
    PanicAtOnce(&'static str),
    Hang,
}

/// An issuer in-process, which counts at its own end. A clone is the same issuer.
pub(crate) struct Issuer<K = ()> {
    desk: Arc<Mutex<Desk>>,
    key: PhantomData<fn() -> K>,
}

pub(crate) type User = FromExtension<u32>;

struct Desk {
    opened: tokio::time::Instant,
    latency: Duration,
    slow: BTreeMap<String, Duration>,
    lifetime: Option<Duration>,
    credential: String,
    does: Does,
    script: VecDeque<Does>,
    began: Vec<(Duration, String)>,
    ended: Vec<Duration>,
    in_air: BTreeMap<String, usize>,
    most_at_once: usize,
    dropped: usize,
}

/// A token request at the issuer.
struct Asking {
    desk: Arc<Mutex<Desk>>,
    key: String,
    answered: bool,
}

impl<K> Clone for Issuer<K> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk), key: PhantomData }
    }
}

impl Issuer {
    /// Answers after 200 ms with a token that lives for 30 min.
    pub(crate) fn new() -> Self {
        Self::open()
    }
}

impl Issuer<User> {
    /// The same, with a token for each user.
    pub(crate) fn for_users() -> Self {
        Self::open()
    }
}

impl<K> Issuer<K> {
    fn open() -> Self {
        let desk = Desk {
            opened: tokio_now(),
            latency: ms(200),
            slow: BTreeMap::new(),
            lifetime: Some(secs(1800)),
            credential: "first".into(),
            does: Does::Mint,
            script: VecDeque::new(),
            began: Vec::new(),
            ended: Vec::new(),
            in_air: BTreeMap::new(),
            most_at_once: 0,
            dropped: 0,
        };
        Self { desk: Arc::new(Mutex::new(desk)), key: PhantomData }
    }

    fn set(&self, change: impl FnOnce(&mut Desk)) {
        change(&mut self.desk.lock().unwrap());
    }

    fn see<T>(&self, read: impl FnOnce(&Desk) -> T) -> T {
        read(&self.desk.lock().unwrap())
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.set(|desk| desk.latency = latency);
    }

    pub(crate) fn latency_for(&self, key: impl Debug, latency: Duration) {
        self.set(|desk| {
            desk.slow.insert(format!("{key:?}"), latency);
        });
    }

    pub(crate) fn lifetime(&self, lifetime: Duration) {
        self.set(|desk| desk.lifetime = Some(lifetime));
    }

    /// From now on, but for what is scripted.
    pub(crate) fn does(&self, does: Does) {
        self.set(|desk| desk.does = does);
    }

    /// Once, after what was scripted before.
    pub(crate) fn then(&self, does: Does) {
        self.set(|desk| desk.script.push_back(does));
    }

    /// Token requests are made with this from now on; the tokens say so.
    pub(crate) fn credential(&self, credential: &str) {
        self.set(|desk| desk.credential = credential.into());
    }

    pub(crate) fn requests(&self) -> usize {
        self.see(|desk| desk.began.len())
    }

    pub(crate) fn requests_for(&self, key: impl Debug) -> usize {
        let key = format!("{key:?}");
        self.see(|desk| desk.began.iter().filter(|(_, asked)| *asked == key).count())
    }

    /// When token requests began, counted from the issuer's opening.
    pub(crate) fn began(&self) -> Vec<Duration> {
        self.see(|desk| desk.began.iter().map(|(at, _)| *at).collect())
    }

    /// When token requests were answered or dropped.
    pub(crate) fn ended(&self) -> Vec<Duration> {
        self.see(|desk| desk.ended.clone())
    }

    pub(crate) fn in_air(&self) -> usize {
        self.see(|desk| desk.in_air.values().sum())
    }

    /// The most token requests for one key that were in the air at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.see(|desk| desk.most_at_once)
    }

    /// Token requests that were dropped before they were answered.
    pub(crate) fn dropped(&self) -> usize {
        self.see(|desk| desk.dropped)
    }

    fn begin(&self, key: String) -> (Asking, Duration, Option<Duration>, Does) {
        let mut desk = self.desk.lock().unwrap();
        let at = desk.now();
        desk.began.push((at, key.clone()));
        let in_air = desk.in_air.entry(key.clone()).or_default();
        *in_air += 1;
        let in_air = *in_air;
        desk.most_at_once = desk.most_at_once.max(in_air);
        let number = desk.began.len();
        let latency = desk.slow.get(&key).copied().unwrap_or(desk.latency);
        let (lifetime, mut does) = (desk.lifetime, desk.script.pop_front().unwrap_or_else(|| desk.does.clone()));
        if let Does::Mint = does {
            let credential = &desk.credential;
            let named = if key == "()" {
                format!("{credential}.{number}")
            } else {
                format!("{credential}.{}.{number}", digits(&key))
            };
            does = Does::Hand(named.leak());
        }
        drop(desk);
        (Asking { desk: Arc::clone(&self.desk), key, answered: false }, latency, lifetime, does)
    }
}

fn digits(key: &str) -> String {
    key.chars().filter(char::is_ascii_digit).collect()
}

impl Desk {
    fn now(&self) -> Duration {
        tokio_now().duration_since(self.opened)
    }
}

impl Asking {
    fn answer(mut self) {
        self.answered = true;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut desk = self.desk.lock().unwrap();
        let at = desk.now();
        desk.ended.push(at);
        desk.dropped += usize::from(!self.answered);
        *desk.in_air.get_mut(&self.key).unwrap() -= 1;
    }
}

impl<K: RequestKey> TokenProvider for Issuer<K> {
    type Key = K;

    fn fetch(&self, key: &K, _: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        let (request, latency, lifetime, does) = self.begin(format!("{key:?}"));
        if let Does::PanicAtOnce(message) = does {
            request.answer();
            panic!("{message}");
        }
        async move {
            // A runtime without timers can still be asked for what takes no time.
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let answer = match does {
                Does::Mint | Does::PanicAtOnce(_) => unreachable!("decided when the request began"),
                Does::Hand(secret) => IssuedToken::bearer(secret).map(|token| match lifetime {
                    Some(lifetime) => token.expires_in(lifetime),
                    None => token,
                }),
                Does::Fail(error) => Err(error),
                Does::Panic(message) => {
                    request.answer();
                    panic!("{message}");
                }
                Does::Hang => std::future::pending().await,
            };
            request.answer();
            answer
        }
    }
}

/// What an issuer that is down comes to.
pub(crate) fn unavailable() -> Error {
    Error::transient("503").with_kind(ErrorKind::Unavailable).with_status(http::StatusCode::SERVICE_UNAVAILABLE)
}

/// Asserts both sums, and that what the source counted is what the issuer saw.
#[track_caller]
pub(crate) fn assert_reconciles<K: RequestKey>(source: &TokenSource<Issuer<K>>) -> SourceStats {
    let stats = source.stats();
    let waits = stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting;
    assert_eq!(stats.waits, waits, "{stats:?}");
    let flights = stats.fetches_succeeded
        + stats.fetches_failed
        + stats.fetches_cancelled
        + stats.fetches_stale
        + stats.fetches_in_flight;
    assert_eq!(stats.fetches, flights, "{stats:?}");
    assert_eq!(stats.fetches, source.provider().requests() as u64, "{stats:?}");
    stats
}
