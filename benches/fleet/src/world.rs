//! A fleet of real [`TokenSource`]s on one issuer, in virtual time.
//!
//! Each process sends requests at random times, one per second on average. Nearly all of them use the cached token, so the
//! simulation omits them. After each response of the issuer it reads `status()` at later times, to find out from when on a
//! request would start a token request. The requests are a Poisson process, so the first request after that time comes after one
//! exponentially distributed delay. For one process in a thousand the simulation also sends the last request before that time,
//! and asserts that it starts no token request.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::task::noop_waker_ref;
use tokio::sync::{mpsc, oneshot};
use tower_bearer_auth::{Clock, Error, FetchContext, IssuedToken, Now, TokenProvider, TokenSource, TokenState};

pub const LIFETIME: Duration = Duration::from_secs(1_800);
const LATENCY: Duration = Duration::from_millis(200);
const BETWEEN_REQUESTS: Duration = Duration::from_secs(1);
/// The precision of the time from which on a request would start a token request.
const PRECISION: Duration = Duration::from_millis(1);

/// The two clocks of the whole fleet.
#[derive(Clone)]
struct Virtual {
    nanos: Arc<AtomicU64>,
    start: Instant,
}

impl Virtual {
    fn set(&self, at: Duration) {
        self.nanos.store(u64::try_from(at.as_nanos()).expect("some days"), Ordering::Relaxed);
    }
}

impl Clock for Virtual {
    fn now(&self) -> Now {
        let passed = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        Now { mono: self.start + passed, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) + passed }
    }
}

type Responder = oneshot::Sender<Result<IssuedToken, Error>>;

/// The provider of one process. The [`World`] receives its token requests and responds to them.
struct Line(mpsc::UnboundedSender<Responder>);

impl TokenProvider for Line {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let (responder, response) = oneshot::channel();
        self.0.send(responder).map_err(Error::transient)?;
        response.await.map_err(Error::transient)?
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub together: bool,
    pub jitter: bool,
    /// The `Retry-After` of the issuer while it is down.
    pub retry_after: Option<Duration>,
}

pub struct Settings {
    pub replicas: u32,
    pub day: Duration,
    /// The period of random starts.
    pub starts_within: Duration,
    pub outages: Vec<(Duration, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request that must not start a token request.
    Probe,
    Request,
    Response,
}

struct World<'a> {
    settings: &'a Settings,
    retry_after: Option<Duration>,
    clock: Virtual,
    replicas: Vec<Replica>,
    arrivals: mpsc::UnboundedReceiver<Responder>,
    events: BinaryHeap<Reverse<(Duration, Event, u32)>>,
    rng: fastrand::Rng,
    seconds: Vec<u32>,
    probes: u64,
    tokens: u64,
}

struct Replica {
    source: TokenSource<Line>,
    pending: Option<Responder>,
}

/// How many token requests arrived at the issuer in each second of the day.
pub fn run(settings: &Settings, scenario: Scenario) -> Vec<u32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(settings, scenario);
        world.live().await;
        world.seconds
    })
}

impl<'a> World<'a> {
    fn new(settings: &'a Settings, scenario: Scenario) -> Self {
        let clock = Virtual { nanos: Arc::default(), start: Instant::now() };
        let (line, arrivals) = mpsc::unbounded_channel();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut events = BinaryHeap::new();
        let replicas = (0..settings.replicas)
            .map(|number| {
                // Without jitter all processes use the same random numbers.
                let seed = if scenario.jitter { u64::from(number) } else { 0 };
                let start = if scenario.together { Duration::ZERO } else { settings.starts_within.mul_f64(rng.f64()) };
                events.push(Reverse((start + until_next_request(&mut rng), Event::Request, number)));
                let source = TokenSource::builder(Line(line.clone()))
                    .clock(clock.clone())
                    .jitter_seed(seed)
                    // This timeout is in real time. Any real time may pass during the virtual 200 ms of the issuer.
                    .fetch_timeout(Duration::from_secs(3_600))
                    .build();
                Replica { source, pending: None }
            })
            .collect();
        let seconds = vec![0; usize::try_from(settings.day.as_secs()).expect("a day")];
        let retry_after = scenario.retry_after;
        Self { settings, retry_after, clock, replicas, arrivals, events, rng, seconds, probes: 0, tokens: 0 }
    }

    async fn live(&mut self) {
        while let Some(Reverse((at, event, number))) = self.events.pop() {
            if at >= self.settings.day {
                break;
            }
            self.clock.set(at);
            match event {
                Event::Probe => {
                    self.probes += 1;
                    self.request(number);
                    tokio::task::yield_now().await;
                    assert!(self.arrivals.try_recv().is_err(), "a token request at {at:?}, too early");
                }
                Event::Request => {
                    self.request(number);
                    let responder = self.arrivals.recv().await.expect("a token request");
                    assert!(self.arrivals.try_recv().is_err(), "two token requests");
                    self.replicas[number as usize].pending = Some(responder);
                    self.seconds[usize::try_from(at.as_secs()).expect("a day")] += 1;
                    self.events.push(Reverse((at + LATENCY, Event::Response, number)));
                }
                Event::Response => {
                    self.respond(number, at).await;
                    self.plan(number, at);
                }
            }
        }
        assert!(self.probes > 0 || self.settings.replicas < 1_000, "nothing was probed");
    }

    /// Sends a request of this process and ignores its outcome.
    fn request(&self, number: u32) {
        let mut token = self.replicas[number as usize].source.token();
        let _ = token.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
    }

    async fn respond(&mut self, number: u32, at: Duration) {
        let received_at = at - LATENCY;
        let down = self.settings.outages.iter().any(|(from, until)| (*from..*until).contains(&received_at));
        let response = if down {
            let error = Error::transient("the issuer is down");
            Err(self.retry_after.map_or(error.clone(), |delay| error.with_retry_after(delay)))
        } else {
            self.tokens += 1;
            IssuedToken::bearer(format!("token-{}", self.tokens)).map(|token| token.expires_in(LIFETIME))
        };
        let replica = &mut self.replicas[number as usize];
        let sent = replica.pending.take().expect("a token request").send(response);
        assert!(sent.is_ok(), "the fetch waits for the response");
        while self.replicas[number as usize].source.stats().fetches_in_flight > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Finds the time of the next request of this process that starts a token request.
    fn plan(&mut self, number: u32, now: Duration) {
        let source = &self.replicas[number as usize].source;
        let starts_one = |at: Duration| {
            self.clock.set(at);
            let status = source.status();
            matches!(status.state, TokenState::Missing | TokenState::Stale) && status.next_try.is_none()
        };
        // As time passes this changes from false to true once.
        let (mut too_early, mut late_enough) = (now, now + LIFETIME);
        assert!(
            !starts_one(too_early) && starts_one(late_enough),
            "there is neither a token nor a backoff, or it does not end"
        );
        while late_enough - too_early > PRECISION {
            let middle = too_early + (late_enough - too_early) / 2;
            if starts_one(middle) {
                late_enough = middle;
            } else {
                too_early = middle;
            }
        }
        self.clock.set(now);
        if number % 1_000 == 0 {
            self.events.push(Reverse((too_early, Event::Probe, number)));
        }
        self.events.push(Reverse((late_enough + until_next_request(&mut self.rng), Event::Request, number)));
    }
}

fn until_next_request(rng: &mut fastrand::Rng) -> Duration {
    BETWEEN_REQUESTS.mul_f64(-(1.0 - rng.f64()).ln())
}
