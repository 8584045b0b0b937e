//! Many processes with one issuer, in virtual time. The issuer counts the token requests.

use std::collections::BTreeSet;
use std::time::Duration;

use tower_bearer_auth::{SourceStats, TokenSource, TokenSourceBuilder};

use crate::support::issuer::{Issuer, Outcome, unavailable};
use crate::support::time::Paused;

/// An issuer that responds at once.
fn issuer() -> Issuer {
    let issuer = Issuer::new();
    issuer.set_latency(Duration::ZERO);
    issuer
}

/// The times of the token requests of 200 sources that started together, in `from..until`, with a request every `step`.
async fn requested(
    build: impl Fn(TokenSourceBuilder<Issuer>, u64) -> TokenSourceBuilder<Issuer>,
    from: Duration,
    until: Duration,
    step: Duration,
    down: bool,
) -> Vec<Vec<Duration>> {
    let clock = Paused::start();
    let fleet: Vec<_> = (0..200)
        .map(|seed| {
            let issuer = issuer();
            (issuer.clone(), build(TokenSource::builder(issuer), seed).clock(clock).build())
        })
        .collect();
    for (_, source) in &fleet {
        source.warm_up().await.unwrap();
    }
    clock.go_to(from).await;
    for (issuer, _) in &fleet {
        issuer.set_down(down);
    }
    while clock.passed() < until {
        for (_, source) in &fleet {
            source.token().await.unwrap();
        }
        tokio::task::yield_now().await;
        clock.go_to(clock.passed() + step).await;
    }
    let since = |issuer: &Issuer| issuer.started().into_iter().filter(|at| *at >= from).collect();
    fleet.iter().map(|(issuer, _)| since(issuer)).collect()
}

/// The share of `parts` equal parts of `from..from + length` that contain at least one of `times`, in percent.
fn covered(times: &[Duration], from: Duration, length: Duration, parts: u32) -> usize {
    let hit: BTreeSet<u128> =
        times.iter().map(|at| (*at - from).as_millis() * u128::from(parts) / length.as_millis()).collect();
    assert!(hit.last().is_none_or(|last| *last < u128::from(parts)), "outside of the jitter window");
    hit.len() * 100 / parts as usize
}

/// A token of 1 800 s has a window of 900 s. The start of the window is drawn from its first 90 s.
const WINDOW_AT: Duration = Duration::from_secs(900);
const JITTER: Duration = Duration::from_secs(90);
const FINE: Duration = Duration::from_millis(50);

// R1: promise 5
#[tokio::test(start_paused = true)]
async fn a_fleet_that_started_together_spreads_over_the_jitter_window() {
    let all = requested(TokenSourceBuilder::jitter_seed, WINDOW_AT, WINDOW_AT + JITTER, FINE, false).await;
    let first: Vec<Duration> = all.iter().filter_map(|times| times.first().copied()).collect();
    assert!(first.len() >= 199, "{} of 200 refreshed in the first tenth of the window", first.len());
    // Thirty parts of 3 s each.
    let percent = covered(&first, WINDOW_AT, JITTER, 30);
    assert!(percent >= 80, "{percent} % of the jitter window is covered");
}

// R1: promise 5
#[tokio::test(start_paused = true)]
async fn a_fleet_with_random_seeds_spreads_over_the_jitter_window() {
    let all = requested(|builder, _| builder, WINDOW_AT, WINDOW_AT + JITTER, FINE, false).await;
    let first: Vec<Duration> = all.iter().filter_map(|times| times.first().copied()).collect();
    let percent = covered(&first, WINDOW_AT, JITTER, 30);
    assert!(percent >= 80, "{percent} % of the jitter window is covered");
}

// R42: promise 5
#[tokio::test(start_paused = true)]
async fn in_an_outage_a_fleet_does_not_call_in_step() {
    let (from, until) = (WINDOW_AT, WINDOW_AT + Duration::from_secs(600));
    let all = requested(TokenSourceBuilder::jitter_seed, from, until, 5 * FINE, true).await;
    // The backoffs have reached their maximum of 30 s. In the last 30 s, every second has some token requests and none has many.
    let last = until - Duration::from_secs(30);
    let times: Vec<Duration> = all.iter().flatten().copied().filter(|at| *at >= last).collect();
    let percent = covered(&times, last, Duration::from_secs(30), 30);
    assert_eq!(percent, 100, "of the last 30 s");
    for second in 0..30 {
        let (begin, end) = (last + Duration::from_secs(second), last + Duration::from_secs(second + 1));
        let herd = times.iter().filter(|at| (begin..end).contains(*at)).count();
        // 200 processes with a mean backoff of 15 s cause 13 token requests a second.
        assert!(herd <= 3 * 13, "{herd} token requests in one second");
    }
}

/// The token requests in the busiest second of the minute after an outage of ten minutes, in which no process has a token. Each
/// process sends one request a second on average.
async fn busiest_second_after_an_outage(processes: u64, retry_after: Option<Duration>) -> usize {
    const OUTAGE: Duration = Duration::from_secs(600);
    let (clock, issuer) = (Paused::start(), Issuer::new());
    let down = retry_after.map_or_else(unavailable, |delay| unavailable().with_retry_after(delay));
    issuer.script_with(move |request| if request.at < OUTAGE { Outcome::Fail(down.clone()) } else { Outcome::Mint });
    let mut fleet = tokio::task::JoinSet::new();
    for seed in 0..processes {
        let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(seed).build();
        let mut rng = fastrand::Rng::with_seed(seed);
        fleet.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1).mul_f64(-(1.0 - rng.f64()).ln())).await;
                match source.token().await {
                    Ok(_) => return,
                    // Requests before that fail at once.
                    Err(error) => tokio::time::sleep(error.retry_after().unwrap()).await,
                }
            }
        });
    }
    fleet.join_all().await;
    let mut seconds = [0; 120];
    for at in issuer.started().into_iter().filter(|at| *at >= OUTAGE) {
        seconds[usize::try_from((at - OUTAGE).as_secs()).unwrap()] += 1;
    }
    assert_eq!(seconds.iter().sum::<u64>(), processes, "each process needs one token");
    usize::try_from(*seconds.iter().max().unwrap()).unwrap()
}

// R42, R70: promise 5
#[tokio::test(start_paused = true)]
async fn after_an_outage_a_fleet_does_not_come_back_in_the_same_second() {
    const PROCESSES: usize = 2_600;
    // A backoff takes 15 s on average, and up to 30 s. A `Retry-After: 30` is added to that.
    for (retry_after, most, least) in
        [(None, PROCESSES / 13, PROCESSES / 18), (Some(30), PROCESSES / 33, PROCESSES / 50)]
    {
        let busiest = busiest_second_after_an_outage(PROCESSES as u64, retry_after.map(Duration::from_secs)).await;
        assert!(busiest <= most, "{busiest} token requests in one second, and not {most}: Retry-After {retry_after:?}");
        assert!(busiest >= least, "{busiest} token requests in one second: the processes were not in backoff");
    }
}

/// An issuer that revokes the older token when it issues a new one. The tokens are numbers.
fn revoking() -> Issuer {
    let issuer = Issuer::new();
    issuer.set_latency(Duration::from_millis(50));
    issuer.name_tokens(|request| request.number.to_string());
    issuer
}

/// The check of the server.
fn accepts(issuer: &Issuer, secret: &str) -> bool {
    secret == issuer.minted().to_string()
}

/// Ten minutes of one process: a request every 100 ms, with one replay after a rejection. Returns the number of rejected
/// requests, replays not counted, and the statistics of the source.
async fn process(issuer: Issuer, clock: Paused, served: bool, phase: Duration) -> (u64, SourceStats) {
    let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(1).build();
    let mut rejected = 0;
    tokio::time::sleep(phase).await;
    while clock.passed() < Duration::from_secs(600) {
        let token = source.token().await.unwrap();
        if served && accepts(&issuer, token.expose_secret()) {
            source.accept(&token);
        } else {
            rejected += 1;
            if source.reject(&(), &token) {
                let token = source.token().await.unwrap();
                if served && accepts(&issuer, token.expose_secret()) {
                    source.accept(&token);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (rejected, source.stats())
}

// R51
#[tokio::test(start_paused = true)]
async fn two_processes_with_an_issuer_that_revokes_the_older_token_cause_bounded_token_requests() {
    let (clock, issuer) = (Paused::start(), revoking());
    let phase = Duration::from_millis(30);
    let ((rejected, stats), (other_rejected, other_stats)) = tokio::join!(
        process(issuer.clone(), clock, true, Duration::ZERO),
        process(issuer.clone(), clock, true, phase),
    );
    let minted = issuer.minted() as u64;
    // Each process: the first token, and 12 refreshes within the budget of 6 and one more every 10 s. After that the intervals
    // grow from 10 s, and a token that is rejected for long is replaced every 80 s.
    assert!(minted <= 2 * (1 + 12 + 5 + 600 / 80), "{minted} token requests in ten minutes");
    assert!(minted >= 24, "{minted} token requests: the processes did not compete");
    // The statistics show it.
    assert_eq!((stats.rejections, other_stats.rejections), (rejected, other_rejected));
    assert_eq!(stats.fetches_succeeded + other_stats.fetches_succeeded, minted);
    assert!(stats.budget_exhausted + other_stats.budget_exhausted > 0);
}

// R16, R51
#[tokio::test(start_paused = true)]
async fn two_processes_whose_tokens_are_never_accepted_refresh_once_a_minute() {
    let (clock, issuer) = (Paused::start(), revoking());
    let phase = Duration::from_millis(30);
    let ((rejected, stats), (_, other_stats)) = tokio::join!(
        process(issuer.clone(), clock, false, Duration::ZERO),
        process(issuer.clone(), clock, false, phase),
    );
    let minted = issuer.minted() as u64;
    // Each process: the first token, and one more for a full budget at the start and after every minute.
    assert!(minted <= 2 * (1 + 10), "{minted} token requests in ten minutes");
    assert_eq!((stats.rejections, stats.rejections_of_unaccepted), (rejected, rejected));
    assert_eq!(stats.fetches_succeeded + other_stats.fetches_succeeded, minted);
}

/// Requests at random times during `over`, with a healthy issuer whose tokens live `lifetime`. Returns how many it issued.
async fn healthy(lifetime: Duration, over: Duration, seed: u64) -> u64 {
    let (clock, issuer) = (Paused::start(), Issuer::new());
    issuer.set_latency(Duration::from_millis(20));
    issuer.set_lifetime(lifetime);
    let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(seed).build();
    let mut rng = fastrand::Rng::with_seed(seed);
    while clock.passed() < over {
        source.token().await.unwrap();
        tokio::time::sleep(lifetime.mul_f64(rng.f64() * rng.f64() / 10.0)).await;
    }
    issuer.minted() as u64
}

// R52
#[tokio::test(start_paused = true)]
async fn a_healthy_issuer_gets_one_token_request_per_lifetime_less_the_window() {
    // Lifetime, window (by hand) and T, in s; 1 + ceil(T / (L - window)).
    let table = [
        (1, 0, 60, 61),
        (2, 1, 60, 61),
        (10, 5, 600, 121),
        (60, 30, 3_600, 121),
        (1_800, 900, 86_400, 97),
        (3_600, 1_200, 86_400, 37),
        (86_400, 1_200, 864_000, 12),
    ];
    for (lifetime, window, over, most) in table {
        assert_eq!(most, 1 + u64::div_ceil(over, lifetime - window), "the table itself");
        for seed in 0..8 {
            let minted = healthy(Duration::from_secs(lifetime), Duration::from_secs(over), seed).await;
            assert!(minted <= most, "{minted} token requests in {over} s for tokens of {lifetime} s, seed {seed}");
            assert!(
                minted * lifetime * 5 / 4 >= over,
                "{minted} for tokens of {lifetime} s: too few requests in this test"
            );
        }
    }
}

// R46
#[tokio::test(start_paused = true)]
async fn a_day_without_requests_causes_no_token_request() {
    let clock = Paused::start();
    let issuer = issuer();
    let source = TokenSource::builder(issuer.clone()).clock(clock).build();
    source.warm_up().await.unwrap();
    for _ in 0..86_400 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(issuer.requests(), 1, "a timer started a fetch");
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 2);
}
