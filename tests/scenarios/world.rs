//! One run of one scenario with one seed, in virtual time.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{AbortHandle, JoinSet};
use tower::Layer as _;
use tower_bearer_auth::{BearerAuth, Error, RefreshPolicy, Token, TokenSource};

use crate::api::{Api, ORIGIN, Sent};
use crate::callers::{Outcome, Record, by_hand, through_layer};
use crate::clock::VirtualClock;
use crate::format::{Do, Given, Scenario, Settings, Step};
use crate::issuer::{Issuer, Shared, TokenRequest, number};
use crate::support::time::settle;
use crate::user_code::{self, Key};

type Tokens = Arc<Mutex<BTreeMap<(usize, u64), Token>>>;
type Action = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a run observed.
pub(crate) struct Observed {
    pub(crate) requests: Vec<TokenRequest>,
    pub(crate) most_at_once: u64,
    pub(crate) records: Vec<Record>,
    /// The `Debug` text of the statistics of each source.
    pub(crate) stats: Vec<String>,
}

struct World {
    clock: VirtualClock,
    issuer: Arc<Shared>,
    api: Api,
    sources: Vec<Arc<TokenSource<Issuer>>>,
    services: Vec<BearerAuth<Api, Issuer>>,
    tokens: Tokens,
    records: Arc<Mutex<Vec<Record>>>,
    tasks: JoinSet<()>,
    last: Option<AbortHandle>,
    second: Option<Runtime>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

pub(crate) fn run(scenario: &Scenario, seed: u64) -> Observed {
    runtime().block_on(async {
        let mut world = World::new(&scenario.given, seed);
        let sources: Vec<_> = world.sources.iter().map(Arc::downgrade).collect();
        let _installed = user_code::install(&scenario.given.user_code, move || {
            for source in sources.iter().filter_map(|source| source.upgrade()) {
                let _status = source.status_for(&Key(String::new()));
                let _token = source.peek_for(&Key(String::new()));
            }
        });
        world.run(&scenario.steps).await;
        world.observed()
    })
}

fn policy(settings: &Settings) -> RefreshPolicy {
    let mut policy = RefreshPolicy::new();
    if let Some(window) = settings.window {
        policy = policy.window(window.0);
    }
    if let Some(margin) = settings.margin {
        policy = policy.margin(margin.0);
    }
    if settings.at_expiry { policy.at_expiry() } else { policy }
}

fn source(number: usize, given: &Given, issuer: &Arc<Shared>, clock: &VirtualClock, seed: u64) -> TokenSource<Issuer> {
    let provider = Issuer { source: number, shared: Arc::clone(issuer), own: Arc::new(OnceLock::new()) };
    let settings = &given.source;
    let seed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64);
    let mut builder = TokenSource::builder(provider).clock(clock.clone()).jitter_seed(seed).refresh(policy(settings));
    if let Some(wait) = settings.max_wait {
        builder = builder.max_wait(wait.0);
    }
    if let Some(timeout) = settings.fetch_timeout {
        builder = builder.fetch_timeout(timeout.0);
    }
    if let Some(keys) = settings.max_keys {
        builder = builder.max_keys(keys);
    }
    if let Some(patience) = settings.patience {
        builder = builder.patience(patience.0);
    }
    builder.build()
}

impl World {
    fn new(given: &Given, seed: u64) -> Self {
        let clock = VirtualClock::start();
        let issuer = Arc::new(Shared::new(clock.clone(), given.clone()));
        let api = Api::new(clock.clone(), Arc::clone(&issuer), given.routes.clone(), seed);
        let build = |number| Arc::new(source(number, given, &issuer, &clock, seed));
        let sources: Vec<_> = (1..=given.sources.unwrap_or(1)).map(build).collect();
        for source in &sources {
            assert!(source.provider().own.set(Arc::downgrade(source)).is_ok(), "set once");
        }
        let service = |source: &Arc<TokenSource<Issuer>>| {
            source.layer().allow_origin(ORIGIN).expect("an origin").layer(api.clone())
        };
        let services = sources.iter().map(service).collect();
        Self {
            clock,
            issuer,
            api,
            sources,
            services,
            tokens: Tokens::default(),
            records: Arc::default(),
            tasks: JoinSet::new(),
            last: None,
            second: None,
        }
    }

    async fn run(&mut self, steps: &[Step]) {
        let mut events: Vec<(Duration, usize)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            events.extend(times(step).map(|at| (at, number)));
        }
        events.sort();
        let mut now = None;
        for (at, number) in events {
            if now != Some(at) {
                self.clock.wait_until(at).await;
                while self.tasks.try_join_next().is_some() {}
                if !self.tasks.is_empty() || self.issuer.is_busy() {
                    settle().await;
                }
                now = Some(at);
            }
            let step = &steps[number];
            for of in 1..=step.keys.unwrap_or(1) {
                let key = if step.keys.is_some() { format!("{}{of}", step.key) } else { step.key.clone() };
                for _ in 0..step.times.unwrap_or(1) {
                    self.act(number, step, &key);
                }
            }
        }
        settle().await;
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "a caller panicked");
        }
        self.end_second_runtime();
    }

    fn observed(self) -> Observed {
        Observed {
            requests: self.issuer.requests(),
            most_at_once: self.issuer.most_open(),
            records: std::mem::take(&mut *self.records.lock()),
            stats: self.sources.iter().map(|source| format!("{:?}", source.stats())).collect(),
        }
    }

    fn act(&mut self, number: usize, step: &Step, key: &str) {
        let source = Arc::clone(&self.sources[step.source - 1]);
        let of_key = Key(key.to_owned());
        match step.action {
            Do::Call => self.begin(number, step, self.taking(step, source.token_for(&of_key)), None),
            Do::Refresh => self.begin(number, step, self.taking(step, source.refresh(&of_key)), None),
            Do::TokenValidFor => {
                let valid_for = step.valid_for.expect("`token_valid_for` needs `valid_for`").0;
                let future = source.token_valid_for(&of_key, valid_for);
                self.begin(number, step, self.taking(step, future), None);
            }
            Do::WarmUp => {
                let future = async move {
                    let result = source.warm_up_for(&of_key).await;
                    result.map_or_else(|error| Outcome::of_error(&error), |()| Outcome::Done)
                };
                self.begin(number, step, Box::pin(future), None);
            }
            Do::Request => {
                let sent = Sent::default();
                let service = self.services[step.source - 1].clone();
                let future = through_layer(service, key.to_owned(), step.route.clone(), step.post, sent.clone());
                self.begin(number, step, Box::pin(future), Some(sent));
            }
            Do::Send => {
                let sent = Sent::default();
                let future = by_hand(source, self.api.clone(), key.to_owned(), step.route.clone(), sent.clone());
                self.begin(number, step, Box::pin(future), Some(sent));
            }
            Do::Drop => {
                if let Some(last) = self.last.take() {
                    last.abort();
                }
            }
            _ => {
                let outcome = self.act_at_once(step, &source, &of_key);
                self.record(number, outcome);
            }
        }
    }

    /// The actions that are not futures.
    fn act_at_once(&mut self, step: &Step, source: &TokenSource<Issuer>, key: &Key) -> Outcome {
        match step.action {
            Do::Accept => source.accept(&self.token(step, source, key)),
            Do::Reject => return Outcome::Replay(source.reject(key, &self.token(step, source, key))),
            Do::Invalidate => source.invalidate_for(key),
            Do::Rotate => source.rotate(),
            Do::Peek => return source.peek_for(key).as_ref().map_or(Outcome::NoToken, Outcome::of_token),
            Do::Status => return Outcome::Status(source.status_for(key)),
            Do::CheckReady => return Outcome::Status(source.check_ready(key)),
            Do::Revoke => self.issuer.revoke(step.token),
            Do::SetClock => self.clock.shift(step.mono, step.wall),
            Do::EndRuntime => self.end_second_runtime(),
            action => panic!("{action:?} is a future"),
        }
        Outcome::Done
    }

    /// The token with the number of the step, as a caller got it.
    fn token(&self, step: &Step, source: &TokenSource<Issuer>, key: &Key) -> Token {
        let wanted = step.token.expect("`accept` and `reject` need `token`");
        let taken = self.tokens.lock().get(&(step.source, wanted)).cloned();
        let token = taken.or_else(|| source.peek_for(key).filter(|token| number(token.expose_secret()) == wanted));
        token.unwrap_or_else(|| panic!("no caller has got token {wanted}"))
    }

    /// Keeps the token that a call returns, for a later `accept` or `reject`.
    fn taking(&self, step: &Step, call: impl Future<Output = Result<Token, Error>> + Send + 'static) -> Action {
        let (tokens, source) = (Arc::clone(&self.tokens), step.source);
        Box::pin(async move {
            match call.await {
                Ok(token) => {
                    tokens.lock().insert((source, number(token.expose_secret())), token.clone());
                    Outcome::of_token(&token)
                }
                Err(error) => Outcome::of_error(&error),
            }
        })
    }

    fn record(&self, step: usize, outcome: Outcome) {
        let start = self.clock.passed();
        let record = Record {
            step,
            start,
            waited: Duration::ZERO,
            took: Duration::ZERO,
            at_once: true,
            outcome,
            sent: Vec::new(),
        };
        self.records.lock().push(record);
    }

    /// Polls a caller once. If it has to wait, a task goes on with it.
    fn begin(&mut self, number: usize, step: &Step, mut action: Action, sent: Option<Sent>) {
        let (start, clock) = (self.clock.passed(), self.clock.clone());
        if step.second_runtime {
            return self.in_second_runtime(action);
        }
        let first = action.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let sent_at_once = sent.as_ref().is_some_and(|sent| !sent.times().is_empty());
        let record = move |outcome, at_once| {
            let sent = sent.map_or_else(Vec::new, |sent| sent.times());
            let took = clock.passed() - start;
            let waited = sent.first().map_or(took, |(at, _)| *at - start);
            Record { step: number, start, waited, took, at_once, outcome, sent }
        };
        if let Poll::Ready(outcome) = first {
            self.records.lock().push(record(outcome, true));
            return;
        }
        let records = Arc::clone(&self.records);
        let task = self.tasks.spawn(async move {
            let outcome = action.await;
            records.lock().push(record(outcome, sent_at_once));
        });
        self.last = Some(task);
    }

    fn end_second_runtime(&mut self) {
        let second = self.second.take();
        self.clock.stop();
        // A runtime must not be dropped inside of another one.
        std::thread::scope(|scope| scope.spawn(|| drop(second)).join()).expect("the runtime ends");
        self.clock.resume();
    }

    /// Starts what `action` starts, in a runtime that ends later. Nothing in it makes progress after that.
    fn in_second_runtime(&mut self, mut action: Action) {
        let second = self.second.get_or_insert_with(runtime);
        self.clock.stop();
        let start = || {
            second.block_on(async {
                let polled = poll_fn(|cx| Poll::Ready(action.as_mut().poll(cx))).await;
                assert!(polled.is_pending() || matches!(polled, Poll::Ready(Outcome::Token { .. })));
                settle().await;
            });
        };
        std::thread::scope(|scope| scope.spawn(start).join()).expect("the second runtime runs");
        self.clock.resume();
    }
}

/// The times of a step.
fn times(step: &Step) -> impl Iterator<Item = Duration> {
    let (first, every) = match (step.at, step.from, step.every) {
        (Some(at), None, None) => (at.0, None),
        (None, Some(from), Some(every)) => (from.0, Some(every.0)),
        _ => panic!("a step has either `at`, or `from`, `to` and `every`: {step:?}"),
    };
    let end = step.to.map_or(Duration::MAX, |to| to.0);
    assert!(every.is_none() || step.to.is_some(), "a step with `every` needs `to`: {step:?}");
    std::iter::successors(Some(first), move |at| every.map(|every| *at + every)).take_while(move |at| *at < end)
}
