//! An issuer in this process, which a test scripts. It counts the token requests.
//!
//! [`Issuer`] is the general one. [`issuer`] makes one from an async closure. [`StrictIssuer`](super::strict_issuer) checks
//! token requests over sockets.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tower_bearer_auth::{
    Error, ErrorKind, ExtensionKey, FetchContext, FromFn, IssuedToken, RequestKey, TokenProvider, from_fn,
};

use super::time::tokio_now;

/// What the issuer does with a token request after its latency.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// Returns a new token. Without [`Issuer::name_tokens`] it is `credential.number`, or `credential.key.number`.
    Mint,
    /// Returns this token.
    Return(&'static str),
    Fail(Error),
    Panic(&'static str),
    /// Panics in `fetch` itself, before there is a future.
    PanicAtOnce(&'static str),
    Hang,
    /// Waits for [`Issuer::release`] or [`Issuer::respond`].
    Hold,
}

/// A token request, for a closure that decides about it.
pub(crate) struct TokenRequest<'a, K> {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) key: &'a K,
    /// The time since the creation of the issuer.
    pub(crate) at: Duration,
}

/// An in-process issuer that counts the token requests it gets. A clone is the same issuer.
pub(crate) struct Issuer<K = ()> {
    state: Arc<Mutex<State<K>>>,
    held: watch::Sender<usize>,
    label: &'static str,
}

/// The key of [`Issuer::for_users`].
pub(crate) type User = ExtensionKey<u32>;

type Name<K> = dyn Fn(&TokenRequest<'_, K>) -> String + Send + Sync;
type Rule<K> = dyn Fn(&TokenRequest<'_, K>) -> Outcome + Send + Sync;

struct State<K> {
    opened: tokio::time::Instant,
    latency: Duration,
    slow: HashMap<K, Duration>,
    lifetime: Option<Duration>,
    other_lifetime: Option<OtherLifetime<K>>,
    credential: String,
    name: Option<Arc<Name<K>>>,
    rule: Arc<Rule<K>>,
    script: VecDeque<Outcome>,
    requests: usize,
    minted: usize,
    running: HashMap<K, usize>,
    most_at_once: usize,
    dropped: usize,
    held: Vec<Option<oneshot::Sender<Outcome>>>,
    /// `None` for a test that counts the memory in use.
    history: Option<History<K>>,
}

struct OtherLifetime<K> {
    condition: fn(&K) -> bool,
    lifetime: Duration,
}

struct History<K> {
    started: Vec<(Duration, K)>,
    ended: Vec<Duration>,
    minted: Vec<Duration>,
    failed: Vec<Duration>,
}

/// A token request that the issuer has not responded to.
struct PendingRequest<K: RequestKey> {
    state: Arc<Mutex<State<K>>>,
    key: K,
    latency: Duration,
    lifetime: Option<Duration>,
    secret: String,
    outcome: Outcome,
    receiver: Option<oneshot::Receiver<Outcome>>,
    responded: bool,
}

impl<K> Clone for Issuer<K> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), held: self.held.clone(), label: self.label }
    }
}

impl Issuer {
    /// Returns a token that lives 30 min after 200 ms.
    pub(crate) fn new() -> Self {
        Self::keyed()
    }
}

impl Issuer<User> {
    /// Like [`Issuer::new`], with one token per user.
    pub(crate) fn for_users() -> Self {
        Self::keyed()
    }
}

impl<K: RequestKey> Issuer<K> {
    /// Like [`Issuer::new`], with one token per key.
    pub(crate) fn keyed() -> Self {
        let state = State {
            opened: tokio_now(),
            latency: Duration::from_millis(200),
            slow: HashMap::new(),
            lifetime: Some(Duration::from_secs(1800)),
            other_lifetime: None,
            credential: "first".into(),
            name: None,
            rule: Arc::new(|_| Outcome::Mint),
            script: VecDeque::new(),
            requests: 0,
            minted: 0,
            running: HashMap::new(),
            most_at_once: 0,
            dropped: 0,
            held: Vec::new(),
            history: Some(History { started: Vec::new(), ended: Vec::new(), minted: Vec::new(), failed: Vec::new() }),
        };
        Self { state: Arc::new(Mutex::new(state)), held: watch::Sender::new(0), label: "" }
    }

    /// Sets the label of the provider in telemetry.
    pub(crate) fn with_label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    /// Records no times and no keys, so that the memory in use does not grow.
    pub(crate) fn without_history(self) -> Self {
        self.state.lock().history = None;
        self
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.state.lock().latency = latency;
    }

    pub(crate) fn set_latency_for(&self, key: &K, latency: Duration) {
        self.state.lock().slow.insert(key.clone(), latency);
    }

    /// Sets the lifetime of the tokens. `None`: the response does not have one.
    pub(crate) fn set_lifetime(&self, lifetime: impl Into<Option<Duration>>) {
        self.state.lock().lifetime = lifetime.into();
    }

    /// Sets another lifetime for the tokens of some keys.
    pub(crate) fn set_lifetime_if(&self, condition: fn(&K) -> bool, lifetime: Duration) {
        self.state.lock().other_lifetime = Some(OtherLifetime { condition, lifetime });
    }

    /// Sets the credential for later token requests. It is part of the tokens.
    pub(crate) fn set_credential(&self, credential: &str) {
        self.state.lock().credential = credential.into();
    }

    /// Sets the secrets of the tokens.
    pub(crate) fn name_tokens(&self, name: impl Fn(&TokenRequest<'_, K>) -> String + Send + Sync + 'static) {
        self.state.lock().name = Some(Arc::new(name));
    }

    /// Appends one outcome to the script.
    pub(crate) fn script(&self, outcome: Outcome) {
        self.state.lock().script.push_back(outcome);
    }

    /// Removes the rest of the script.
    pub(crate) fn clear_script(&self) {
        self.state.lock().script.clear();
    }

    /// Sets the outcome of the requests after the script.
    pub(crate) fn script_always(&self, outcome: Outcome) {
        self.script_with(move |_| outcome.clone());
    }

    /// Decides about the requests after the script.
    pub(crate) fn script_with(&self, rule: impl Fn(&TokenRequest<'_, K>) -> Outcome + Send + Sync + 'static) {
        self.state.lock().rule = Arc::new(rule);
    }

    /// Whether the issuer is down from now on.
    pub(crate) fn set_down(&self, down: bool) {
        self.script_always(if down { Outcome::Fail(unavailable()) } else { Outcome::Mint });
    }

    /// Responds to one held request, in the order in which they were held, from 0. Panics if it was dropped.
    pub(crate) fn respond(&self, held: usize, outcome: Outcome) {
        let sender = self.state.lock().held[held].take().expect("one response per request");
        assert!(sender.send(outcome).is_ok(), "the token request was dropped");
    }

    /// Mints tokens for all held requests.
    pub(crate) fn release(&self) {
        let held: Vec<_> = self.state.lock().held.iter_mut().filter_map(Option::take).collect();
        for sender in held {
            // A dropped request needs no token.
            let _ = sender.send(Outcome::Mint);
        }
    }

    /// Waits until so many requests have been held.
    pub(crate) async fn wait_held(&self, count: usize) {
        self.held.subscribe().wait_for(|held| *held >= count).await.unwrap();
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().requests
    }

    pub(crate) fn requests_for(&self, key: &K) -> usize {
        self.read_history(|history| history.started.iter().filter(|(_, other)| other == key).count())
    }

    /// The number of tokens that were returned.
    pub(crate) fn minted(&self) -> usize {
        self.state.lock().minted
    }

    /// The keys of all token requests, in order.
    pub(crate) fn requested_keys(&self) -> Vec<K> {
        self.read_history(|history| history.started.iter().map(|(_, key)| key.clone()).collect())
    }

    /// When token requests started, from the creation of the issuer.
    pub(crate) fn started(&self) -> Vec<Duration> {
        self.read_history(|history| history.started.iter().map(|(at, _)| *at).collect())
    }

    /// When token requests ended: with a response, or because they were dropped.
    pub(crate) fn ended(&self) -> Vec<Duration> {
        self.read_history(|history| history.ended.clone())
    }

    /// When the last token was returned.
    pub(crate) fn last_minted_at(&self) -> Option<Duration> {
        self.read_history(|history| history.minted.last().copied())
    }

    /// When the last token request failed.
    pub(crate) fn last_failed_at(&self) -> Option<Duration> {
        self.read_history(|history| history.failed.last().copied())
    }

    /// The number of token requests without a response.
    pub(crate) fn running(&self) -> usize {
        self.state.lock().running.values().sum()
    }

    /// The largest number of token requests for one key at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.lock().most_at_once
    }

    /// Token requests that were dropped before their response.
    pub(crate) fn dropped(&self) -> usize {
        self.state.lock().dropped
    }

    /// The number of clones, including those inside of sources and of pending requests.
    pub(crate) fn clones(&self) -> usize {
        Arc::strong_count(&self.state)
    }

    fn read_history<T>(&self, read: impl FnOnce(&History<K>) -> T) -> T {
        read(self.state.lock().history.as_ref().expect("this issuer has a history"))
    }

    fn begin(&self, key: &K) -> PendingRequest<K> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let at = state.now();
        state.requests += 1;
        if let Some(history) = &mut state.history {
            history.started.push((at, key.clone()));
        }
        let running = state.running.entry(key.clone()).or_default();
        *running += 1;
        state.most_at_once = state.most_at_once.max(*running);
        let request = TokenRequest { number: state.requests, key, at };
        let secret = match &state.name {
            Some(name) => name(&request),
            None => default_name(&state.credential, &request),
        };
        let outcome = state.script.pop_front().unwrap_or_else(|| (state.rule)(&request));
        let lifetime = match &state.other_lifetime {
            Some(other) if (other.condition)(key) => Some(other.lifetime),
            _ => state.lifetime,
        };
        let latency = state.slow.get(key).copied().unwrap_or(state.latency);
        let receiver = matches!(outcome, Outcome::Hold).then(|| {
            let (sender, receiver) = oneshot::channel();
            state.held.push(Some(sender));
            receiver
        });
        drop(guard);
        tracing::debug!(target: "provider", number = request.number, "token request");
        PendingRequest {
            state: Arc::clone(&self.state),
            key: key.clone(),
            latency,
            lifetime,
            secret,
            outcome,
            receiver,
            responded: false,
        }
    }
}

fn default_name<K: RequestKey>(credential: &str, request: &TokenRequest<'_, K>) -> String {
    let digits: String = format!("{:?}", request.key).chars().filter(char::is_ascii_digit).collect();
    match digits.as_str() {
        "" => format!("{credential}.{}", request.number),
        key => format!("{credential}.{key}.{}", request.number),
    }
}

impl<K> State<K> {
    fn now(&self) -> Duration {
        tokio_now().duration_since(self.opened)
    }
}

impl<K: RequestKey> PendingRequest<K> {
    /// Records the response. `response` is `None` for a panic.
    fn respond(mut self, response: Option<&Result<IssuedToken, Error>>) {
        self.responded = true;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let at = state.now();
        state.minted += usize::from(matches!(response, Some(Ok(_))));
        if let (Some(history), Some(response)) = (&mut state.history, response) {
            let times = if response.is_ok() { &mut history.minted } else { &mut history.failed };
            times.push(at);
        }
    }

    fn token(&self, secret: &str) -> Result<IssuedToken, Error> {
        let token = IssuedToken::bearer(secret)?;
        Ok(match self.lifetime {
            Some(lifetime) => token.expires_in(lifetime),
            None => token,
        })
    }
}

impl<K: RequestKey> Drop for PendingRequest<K> {
    fn drop(&mut self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let at = state.now();
        if let Some(history) = &mut state.history {
            history.ended.push(at);
        }
        state.dropped += usize::from(!self.responded);
        let running = state.running.get_mut(&self.key).expect("it was counted when it started");
        *running -= 1;
        if *running == 0 {
            state.running.remove(&self.key);
        }
    }
}

impl<K: RequestKey> TokenProvider for Issuer<K> {
    type Key = K;

    fn fetch(&self, key: &K, _: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        let mut request = self.begin(key);
        if let Outcome::PanicAtOnce(message) = request.outcome {
            request.respond(None);
            panic!("{message}");
        }
        let held = self.held.clone();
        async move {
            // Without a latency it also works in a runtime without timers.
            if !request.latency.is_zero() {
                tokio::time::sleep(request.latency).await;
            }
            if let Some(receiver) = request.receiver.take() {
                held.send_modify(|held| *held += 1);
                request.outcome = receiver.await.expect("the issuer keeps the sender");
            }
            let response = match request.outcome.clone() {
                Outcome::Mint => request.token(&request.secret),
                Outcome::Return(secret) => request.token(secret),
                Outcome::Fail(error) => Err(error),
                Outcome::Panic(message) | Outcome::PanicAtOnce(message) => {
                    request.respond(None);
                    panic!("{message}");
                }
                Outcome::Hang | Outcome::Hold => std::future::pending().await,
            };
            request.respond(Some(&response));
            response
        }
    }

    fn label(&self) -> &str {
        self.label
    }
}

/// The error of an issuer that is down.
pub(crate) fn unavailable() -> Error {
    Error::transient("503").with_kind(ErrorKind::Unavailable).with_status(http::StatusCode::SERVICE_UNAVAILABLE)
}

/// The number of token requests at an [`issuer`].
#[derive(Clone, Default)]
pub(crate) struct RequestCount(Arc<AtomicUsize>);

impl RequestCount {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A provider that calls `respond` with the number of the token request, from 1.
pub(crate) fn issuer<F, Fut>(respond: F) -> (FromFn<impl Fn() -> Fut + Send + Sync + 'static>, RequestCount)
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    let requests = RequestCount::default();
    let count = requests.clone();
    (from_fn(move || respond(count.0.fetch_add(1, Ordering::SeqCst) + 1)), requests)
}

/// The `n`-th token: `token-n`, for half an hour.
pub(crate) fn token(n: usize) -> Result<IssuedToken, Error> {
    Ok(IssuedToken::bearer(format!("token-{n}"))?.expires_in(Duration::from_secs(1800)))
}
