//! R86: how many token requests a fleet makes.

use tokio::time::sleep;

use crate::support::time::{settle, tokio_now};
use crate::world::{World, ms, secs, together};

// R86
#[tokio::test(start_paused = true)]
async fn processes_that_start_together_cause_one_token_request() {
    for count in [1, 2, 100] {
        let world = World::new();
        let processes = world.processes(count);
        let tokens = together(&processes, |process| process.token()).await;
        assert!(tokens.iter().all(|token| token.as_deref().unwrap() == "first.1"), "{tokens:?}");
        assert_eq!(world.requests(), 1, "{count} processes");
        // The store is not asked again and again.
        let calls = processes.iter().map(|process| process.store.calls()).max().unwrap();
        assert!(calls <= 5, "{calls} calls of one process");
    }
}

// R86
#[tokio::test(start_paused = true)]
async fn a_slow_issuer_does_not_make_processes_ask_the_store_all_the_time() {
    for (latency, most) in [(200, 4), (3_000, 11)] {
        let world = World::new();
        world.issuer.set_latency(ms(latency));
        let processes = world.processes(50);
        together(&processes, |process| process.token()).await;
        assert_eq!(world.requests(), 1);
        let calls: usize = processes.iter().map(|process| process.store.calls()).sum();
        assert!(calls <= most * 50, "{calls} calls of 50 processes with an issuer of {latency} ms");
    }
}

/// The token requests of `count` processes in `hours`, each with a request every 10 s to 40 s. Returns also how many requests
/// failed.
async fn requests_in(count: usize, hours: u64, revoke_at: Option<u64>) -> (usize, usize) {
    let world = World::new();
    let until = tokio_now() + secs(hours * 3_600);
    let processes = world.processes(count);
    let mut rng = fastrand::Rng::with_seed(count as u64);
    let seeds: Vec<u64> = processes.iter().map(|_| rng.u64(..)).collect();
    let work = futures::future::join_all(processes.iter().zip(seeds).map(|(process, seed)| async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut failed = 0;
        while tokio_now() < until {
            failed += usize::from(!process.call().await);
            sleep(ms(rng.u64(10_000..40_000))).await;
        }
        failed
    }));
    let revocation = async {
        if let Some(at) = revoke_at {
            sleep(secs(at)).await;
            let token = processes[0].source.peek().unwrap();
            world.revoke(token.expose_secret());
        }
    };
    let (failed, ()) = tokio::join!(work, revocation);
    (world.requests(), failed.into_iter().sum())
}

// R86
#[tokio::test(start_paused = true)]
async fn any_number_of_processes_make_one_token_request_per_lifetime_less_the_window() {
    // Tokens of 1 800 s have a window of 900 s: 1 + ceil(4 h / 900 s).
    for count in [1, 3, 30] {
        let (requests, failed) = requests_in(count, 4, None).await;
        assert!(requests <= 17, "{requests} token requests of {count} processes");
        assert_eq!(failed, 0);
    }
}

// R86, R87
#[tokio::test(start_paused = true)]
async fn twenty_processes_make_twenty_six_token_requests_in_six_hours_with_a_revocation() {
    let (requests, failed) = requests_in(20, 6, Some(7_000)).await;
    assert!(requests <= 26, "{requests} token requests");
    assert_eq!(failed, 0);
}

// R86: a refresh on demand is one of the fleet, too.
#[tokio::test(start_paused = true)]
async fn processes_that_refresh_on_demand_at_the_same_time_cause_one_token_request() {
    let world = World::new();
    let processes = world.processes(10);
    together(&processes, |process| process.token()).await;
    sleep(secs(60)).await;
    let refreshed = together(&processes, |process| process.source.refresh(&())).await;
    assert!(refreshed.iter().all(|token| token.as_ref().unwrap().expose_secret() == "first.2"));
    assert_eq!(world.requests(), 2);
    settle().await;
}
