//! Events, counters and statistics about the store.

use tokio::time::sleep;

use crate::support::telemetry::Capture;
use crate::world::{Fault, OTHER_KEY, Outcome, Settings, World, ms, secs, settle, together, unavailable};

fn counted(capture: &Capture) -> Vec<(&'static str, u64)> {
    let all = ["hit", "miss", "leased", "waited", "noted", "failed", "unopened"];
    let counts = all.map(|outcome| (outcome, capture.count("store_total", &[("outcome", outcome)])));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(start_paused = true)]
async fn what_happens_at_the_store_is_counted_and_reported() {
    let capture = Capture::start();
    let world = World::new();
    let processes = world.processes(3);
    together(&processes, |process| process.token()).await;
    assert_eq!(counted(&capture), [("hit", 2), ("miss", 3), ("leased", 1), ("waited", 2)]);
    let stats = processes[0].stats();
    assert_eq!((stats.store_leases, stats.store_misses, stats.store_hits, stats.store_waits), (1, 1, 0, 0));
    let stats = processes[1].stats();
    assert_eq!((stats.store_leases, stats.store_misses, stats.store_hits, stats.store_waits), (0, 1, 1, 1));
    let lines: Vec<String> = capture.lines().into_iter().filter(|line| line.contains("store_used")).collect();
    assert_eq!(lines.len(), 8);
    assert!(lines.contains(&"DEBUG store_used outcome=leased provider=".to_owned()), "{lines:?}");
    // An event is in the span of its fetch, which has the key.
    assert!(capture.named("store_used").iter().all(|event| event.inside.as_deref() == Some("token_request")));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_a_record_that_does_not_open_and_a_note_are_reported() {
    let capture = Capture::start();
    let world = World::new();
    world.process().token().await.unwrap();
    let other = world.process_with(Settings { key: OTHER_KEY, ..Settings::default() }, |builder| builder);
    other.token().await.unwrap();
    assert_eq!(capture.named("store_record_unopened").len(), 1);
    world.server.lose_everything();
    world.issuer.script(Outcome::Fail(unavailable()));
    let (one, two) = (world.process(), world.process());
    let build = |process: &crate::world::Process| process.source.clone();
    let (first, second) = (build(&one), build(&two));
    let _ = tokio::join!(first.token(), async {
        sleep(ms(250)).await;
        second.token().await
    });
    let down = world.process();
    down.store.set(Fault::Hangs);
    down.token().await.unwrap();
    settle().await;
    let counts = counted(&capture);
    for (outcome, count) in [("failed", 1), ("unopened", 1)] {
        assert!(counts.contains(&(outcome, count)), "{counts:?}");
    }
    assert!(two.stats().store_notes >= 1 && down.stats().store_failures == 1, "{counts:?}");
    let failed = capture.named("store_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].field("error"), Some("the store did not respond within 500 ms"));
    sleep(secs(60)).await;
}

// Nothing about a store is emitted without one.
#[tokio::test(start_paused = true)]
async fn without_a_store_nothing_about_a_store_is_emitted() {
    let capture = Capture::start();
    let world = World::new();
    let source = tower_bearer_auth::TokenSource::new(world.issuer.clone());
    source.token().await.unwrap();
    assert!(counted(&capture).is_empty());
    assert!(!capture.text().contains("store"), "{}", capture.text());
}
