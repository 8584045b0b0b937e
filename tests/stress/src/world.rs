//! One source with its issuer and its API, and the threads that use them for a while.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};
use tower_bearer_auth::replay::{Cloned, Mode};
use tower_bearer_auth::{ExtensionKey, SourceStats, TokenSource};

use crate::api::{self, Api};
use crate::caller;
use crate::clock::FastClock;
use crate::counts::{Counts, add};
use crate::issuer::{Issuer, KeyOf, Provider, User};
use crate::telemetry;
use crate::violation;

/// How many references there are to a world that nothing uses: of its caller, of the provider and of the watchdog.
const REFERENCES: usize = 3;

/// How many callers a runtime has.
const CALLERS: u32 = 16;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) users: u32,
    keyed: bool,
    max_keys: usize,
    threads: u32,
    speed: u32,
    pub(crate) lifetime: Duration,
    /// In microseconds.
    pub(crate) slowest_fetch: u64,
    pub(crate) mode: Mode,
    pub(crate) panics: bool,
    pub(crate) one_failure_in: u32,
    pub(crate) one_stray_in: u32,
    pub(crate) one_abort_in: u32,
    pub(crate) one_disturbance_in: u32,
    /// One fetch in so many ends its runtime.
    pub(crate) one_end_in: u32,
}

impl Config {
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut of = |values: &[u32]| values[rng.usize(..values.len())];
        let keyed = of(&[0, 1, 1]) == 1;
        let users = if keyed { of(&[2, 8, 64]) } else { 1 };
        Self {
            seed,
            users,
            keyed,
            max_keys: of(&[10_000, 10_000, users / 2 + 1]) as usize,
            threads: of(&[2, 3, 4]),
            speed: of(&[1, 20, 200]),
            lifetime: Duration::from_secs(of(&[4, 30, 600]).into()),
            slowest_fetch: of(&[1, 500, 5000]).into(),
            mode: [Mode::Safe, Mode::Safe, Mode::Safe, Mode::Never, Mode::Always][of(&[0, 1, 2, 3, 4]) as usize],
            panics: of(&[0, 1]) == 1,
            one_failure_in: of(&[5, 50, 1_000_000]),
            one_stray_in: of(&[100, 5000, 100_000_000]),
            one_abort_in: of(&[20, 200]),
            one_disturbance_in: of(&[200, 2000, 20_000]),
            one_end_in: of(&[3, 30, 1_000_000]),
        }
    }
}

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) clock: FastClock,
    pub(crate) issuer: Issuer,
    pub(crate) api: Api,
    /// For each user: a token with this number or a lower one was removed by `rotate` or `invalidate`.
    pub(crate) removed: Vec<AtomicU64>,
    pub(crate) counts: Arc<Counts>,
    /// Calls that look a token up.
    pub(crate) lookups: AtomicU64,
    /// Calls of `reject`.
    pub(crate) reported: AtomicU64,
    /// Errors of a runtime that shuts down.
    pub(crate) no_runtime: AtomicU64,
    left: AtomicI64,
    ends: Instant,
    /// When each caller began its step, in milliseconds after the start of the world. 0 between steps.
    steps: Vec<AtomicU64>,
    began: Instant,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.config)
    }
}

/// Runs one world, at most for `time` and with at most `requests` steps.
pub(crate) fn run(config: Config, counts: &Arc<Counts>, time: Duration, requests: i64) {
    let world = Arc::new(World {
        clock: FastClock::new(config.speed),
        issuer: Issuer::new(config.users),
        api: Api::new(config.users),
        removed: (0..config.users).map(|_| AtomicU64::new(0)).collect(),
        counts: Arc::clone(counts),
        lookups: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        no_runtime: AtomicU64::new(0),
        left: AtomicI64::new(requests),
        ends: Instant::now() + time,
        steps: (0..config.threads * CALLERS).map(|_| AtomicU64::new(0)).collect(),
        began: Instant::now(),
        config,
    });
    *crate::CURRENT.lock() = Some(Arc::clone(&world));
    if world.config.keyed { run_with::<ExtensionKey<User>>(&world) } else { run_with::<()>(&world) }
}

fn run_with<K: KeyOf>(world: &Arc<World>) {
    let config = &world.config;
    let source = TokenSource::builder(Provider::<K> { world: Arc::clone(world), key: PhantomData })
        .clock(world.clock)
        .max_keys(config.max_keys)
        .max_wait(Duration::from_secs(2))
        .patience(Duration::from_millis(100))
        // By the fast clock, a fetch takes long if the machine is busy.
        .fetch_timeout(Duration::from_secs(24 * 60 * 60))
        .jitter_seed(config.seed)
        .build();
    telemetry::panic_once_in(if config.panics { 200 } else { 0 });
    thread::scope(|scope| {
        for number in 0..config.threads {
            let source = &source;
            scope.spawn(move || use_runtimes(world, source, number));
        }
    });
    // The threads of a runtime can go on for a moment after `shutdown_background`.
    while Arc::strong_count(world) > REFERENCES || source.stats().fetches_in_flight > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    telemetry::panic_once_in(0);
    let panics = telemetry::take_panics() + world.issuer.panicked.load(SeqCst);
    check_stats(world, source.stats(), panics);
    let counts = &world.counts;
    add(&counts.rejections, world.api.rejections.load(SeqCst) + world.reported.load(SeqCst));
    add(&counts.replays, world.api.second_sends.load(SeqCst));
    add(&counts.fetches, world.issuer.fetches.load(SeqCst));
    add(&counts.dropped_fetches, world.issuer.dropped.load(SeqCst));
    add(&counts.panics, panics);
}

/// Uses one runtime after the other. Some end while a fetch runs.
fn use_runtimes<K: KeyOf>(world: &Arc<World>, source: &TokenSource<Provider<K>>, thread: u32) {
    while world.goes_on() {
        let runtime = match fastrand::u32(..3) {
            0 => Builder::new_multi_thread().worker_threads(2).enable_time().build(),
            _ => Builder::new_current_thread().enable_time().build(),
        };
        let runtime = runtime.unwrap_or_else(|error| violation(&error.to_string()));
        let end = Arc::new(Notify::new());
        let id = runtime.handle().id();
        world.issuer.ends.lock().insert(id, Arc::clone(&end));
        let finished = use_runtime(world, source, thread, &runtime, &end);
        if fastrand::bool() {
            runtime.shutdown_background();
        } else {
            drop(runtime);
        }
        world.issuer.ends.lock().remove(&id);
        if !finished {
            add(&world.counts.ended_runtimes, 1);
        }
        for number in 0..CALLERS {
            world.steps[(thread * CALLERS + number) as usize].store(0, SeqCst);
        }
    }
}

/// Returns whether all callers finished.
fn use_runtime<K: KeyOf>(
    world: &Arc<World>,
    source: &TokenSource<Provider<K>>,
    thread: u32,
    runtime: &Runtime,
    end: &Notify,
) -> bool {
    let receiver = Arc::clone(world);
    let layer = source.layer().bodies(Cloned).replay(world.config.mode);
    let layer = layer.allow_origin("https://api.example").unwrap_or_else(|error| violation(&error.to_string()));
    let service = layer.layer(service_fn(move |request| api::receive(Arc::clone(&receiver), request)));
    runtime.block_on(async {
        let callers = (0..CALLERS).map(|number| {
            let (world, source, mut service) = (Arc::clone(world), source.clone(), service.clone());
            tokio::spawn(async move {
                let step = &world.steps[(thread * CALLERS + number) as usize];
                while world.takes_step() {
                    step.store(world.began.elapsed().as_millis() as u64 + 1, SeqCst);
                    if fastrand::u8(..) < 16 {
                        service = service.clone();
                    }
                    caller::step(&world, &source, &mut service).await;
                    step.store(0, SeqCst);
                    add(&world.counts.requests, 1);
                    tokio::task::coop::consume_budget().await;
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let all = std::pin::pin!(join_all(callers));
        let ended = std::pin::pin!(end.notified());
        matches!(select(all, ended).await, futures_util::future::Either::Left(_))
    })
}

impl World {
    fn goes_on(&self) -> bool {
        self.left.load(SeqCst) > 0 && Instant::now() < self.ends
    }

    fn takes_step(&self) -> bool {
        self.goes_on() && self.left.fetch_sub(1, SeqCst) > 0
    }

    /// For how long the longest step has run.
    pub(crate) fn longest_step(&self) -> Duration {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let begun = self.steps.iter().map(|step| step.load(SeqCst)).filter(|begun| *begun > 0);
        Duration::from_millis(begun.map(|begun| now.saturating_sub(begun)).max().unwrap_or(0))
    }
}

/// Compares the statistics of the source with what the issuer and the API counted. A panic can come between an event and
/// its count.
fn check_stats(world: &World, stats: SourceStats, panics: u64) {
    let (issuer, api) = (&world.issuer, &world.api);
    let of = |count: &AtomicU64| count.load(SeqCst);
    let check = |what: &str, holds: bool| {
        if !holds {
            violation(&format!(
                "statistics: {what}, {panics} panics, {stats:?}; issuer: {} fetches, {} returned, {} failed, {} dropped, {} \
                 panicked; API: {} rejections, {} second sends; {} reported, {} lookups",
                of(&issuer.fetches),
                of(&issuer.returned),
                of(&issuer.failed),
                of(&issuer.dropped),
                of(&issuer.panicked),
                of(&api.rejections),
                of(&api.second_sends),
                of(&world.reported),
                of(&world.lookups),
            ));
        }
    };
    let near = |a: u64, b: u64| a.abs_diff(b) <= panics;
    check("nothing waits", stats.waiting == 0 && stats.fetches_in_flight == 0);
    check("each wait ends", stats.waits == stats.waits_served + stats.waits_failed + stats.waits_abandoned);
    let ended = stats.fetches_succeeded + stats.fetches_failed;
    let cut = stats.fetches_cancelled + stats.fetches_discarded;
    check("each fetch ends", stats.fetches == ended + cut);
    // A runtime can end before it has polled the task of a fetch. The provider is not called then.
    let called = of(&issuer.fetches);
    check("fetches", called <= stats.fetches && stats.fetches - called <= cut);
    let completed = of(&issuer.returned) + of(&issuer.failed) + of(&issuer.panicked);
    check(
        "completed fetches",
        ended <= completed && completed - ended <= cut && completed + of(&issuer.dropped) == called,
    );
    check("returned tokens", stats.fetches_succeeded <= of(&issuer.returned));
    check("replays", near(stats.replays, of(&api.second_sends)));
    let rejections = of(&api.rejections) + of(&world.reported);
    check("rejections", near(stats.rejections, rejections));
    let counted = stats.hits + stats.failed_fast + stats.waits;
    // A request that is rejected may look a token up twice more.
    let slack = panics + of(&world.no_runtime);
    check("lookups", counted <= of(&world.lookups) + 2 * rejections + slack && of(&world.lookups) <= counted + slack);
}
