//! R90 and R91: clocks that differ, the life of a record, and the windows of the replicas.

use tokio::time::sleep;
use tower_bearer_auth::RefreshPolicy;

use crate::world::{Fault, Process, Settings, World, ms, secs, settle};

/// For how many seconds the source still stamps its token.
fn usable_for(process: &Process) -> u64 {
    let mut seconds = 0;
    while process.source.peek().is_some() {
        process.clock.mono_forward(secs(1));
        process.clock.wall_forward(secs(1));
        seconds += 1;
    }
    seconds
}

// R90: spring-security-oauth #646
#[tokio::test(start_paused = true)]
async fn wall_clocks_that_differ_by_hours_change_nothing() {
    for hours in [0, 5] {
        for ahead in [false, true] {
            let world = World::new();
            let (first, second) = (world.process(), world.process());
            match ahead {
                true => second.clock.wall_forward(secs(hours * 3_600)),
                false => second.clock.wall_back(secs(hours * 3_600)),
            }
            first.token().await.unwrap();
            sleep(secs(600)).await;
            assert_eq!(second.token().await.unwrap(), "first.1");
            let (left, other) = (usable_for(&first), usable_for(&second));
            assert!(left.abs_diff(other) <= 1, "{left} and {other}");
            // 1 800 s less 600 s less the margin of 30 s.
            assert!(left.abs_diff(1_170) <= 1, "{left}");
        }
    }
}

// R90, R91
#[tokio::test(start_paused = true)]
async fn a_store_that_rounds_makes_a_token_at_most_a_second_older() {
    let world = World::new();
    world.server.round();
    let first = world.process();
    first.token().await.unwrap();
    sleep(ms(600_400)).await;
    let second = world.process();
    second.token().await.unwrap();
    let (left, other) = (usable_for(&first), usable_for(&second));
    assert!(left >= other && left - other <= 2, "{left} and {other}");
}

// R87, R90: a second that a store rounds off does not make the new token older than the rejected one.
#[tokio::test(start_paused = true)]
async fn a_revocation_costs_one_token_request_if_the_store_rounds() {
    let world = World::new();
    world.server.round();
    let processes = world.processes(5);
    crate::world::together(&processes, |process| process.load(ms(50), secs(3))).await;
    world.revoke("first.1");
    let failed = crate::world::together(&processes, |process| process.load(ms(50), secs(3))).await;
    assert_eq!((failed, world.requests()), (vec![0; 5], 2));
}

// R90
#[tokio::test(start_paused = true)]
async fn the_life_of_a_record_counts_from_before_the_call_was_sent() {
    for fault in [Fault::SlowResponse(ms(450)), Fault::Slow(ms(450))] {
        let world = World::new();
        // Their clocks begin at the same time.
        let (first, second) = (world.process(), world.process());
        first.token().await.unwrap();
        second.store.set(fault);
        second.token().await.unwrap();
        let expires_at = |process: &Process| process.source.peek().unwrap().expires_at();
        assert!(expires_at(&second) <= expires_at(&first), "{fault:?}");
    }
}

// R90
#[tokio::test(start_paused = true)]
async fn a_record_lives_no_longer_than_it_was_sealed_for() {
    let world = World::new();
    let first = world.process();
    first.token().await.unwrap();
    // After a failover, the clock of another node counts. For it the record has just begun, or will never end.
    let mut record = world.server.tokens()[0].clone();
    record.keep = secs(30 * 86_400);
    sleep(secs(900)).await;
    world.server.put(&record).await;
    let second = world.process();
    assert_eq!(second.token().await.unwrap(), "first.1");
    let left = usable_for(&second);
    assert!(left.abs_diff(1_770) <= 1, "{left}");
}

// R90
#[tokio::test(start_paused = true)]
async fn a_record_without_an_expiry_is_invalid() {
    let world = World::new();
    world.process().token().await.unwrap();
    world.server.persist();
    let second = world.process();
    assert_eq!(second.token().await.unwrap(), "first.2");
    assert_eq!(second.stats().store_unopened, 1);
}

// R90: the monotonic clock stops while a machine is suspended.
#[tokio::test(start_paused = true)]
async fn a_holder_that_was_suspended_states_the_true_age_of_its_token() {
    let world = World::new();
    world.issuer.set_latency(secs(2));
    let first = world.process();
    let (_, ()) = tokio::join!(first.token(), async {
        sleep(secs(1)).await;
        first.clock.wall_forward(secs(1_000));
    });
    let second = world.process();
    assert_eq!(second.token().await.unwrap(), "first.1");
    let left = usable_for(&second);
    assert!(left.abs_diff(1_770 - 1_002) <= 2, "{left}");
}

// R91: solace-broker-mcp #395
#[tokio::test(start_paused = true)]
async fn all_replicas_compute_the_same_window_whenever_they_take_the_token() {
    let world = World::new();
    let first = world.process();
    first.token().await.unwrap();
    for wait in [1, 59, 240, 600] {
        sleep(secs(wait)).await;
        let other = world.process();
        other.token().await.unwrap();
        assert!(usable_for(&other).abs_diff(1_770 - passed(wait)) <= 2);
    }
    assert_eq!(world.requests(), 1);
}

/// The time since the start, after this step of the test above.
fn passed(step: u64) -> u64 {
    [1, 59, 240, 600].into_iter().take_while(|other| *other <= step).sum()
}

// R91
#[tokio::test(start_paused = true)]
async fn the_first_replica_whose_window_begins_renews_for_all() {
    let world = World::new();
    let processes: Vec<_> =
        (0..10).map(|seed| world.process_with(Settings::default(), |builder| builder.jitter_seed(seed))).collect();
    crate::world::together(&processes, |process| process.token()).await;
    // The windows begin at 900 s to 990 s.
    sleep(secs(899)).await;
    crate::world::together(&processes, |process| process.load(ms(500), secs(100))).await;
    settle().await;
    assert_eq!(world.requests(), 2);
    let secrets: Vec<_> = processes.iter().map(|process| process.source.peek().unwrap()).collect();
    assert!(secrets.iter().all(|token| token.expose_secret() == "first.2"));
}

// R91
#[tokio::test(start_paused = true)]
async fn a_replica_with_a_longer_margin_takes_no_token_that_it_could_not_use() {
    let world = World::new();
    world.process().token().await.unwrap();
    sleep(secs(1_000)).await;
    let policy = RefreshPolicy::new().margin(secs(850));
    let careful = world.process_with(Settings::default(), |builder| builder.refresh(policy));
    assert_eq!(careful.token().await.unwrap(), "first.2");
    assert_eq!(world.process().token().await.unwrap(), "first.2");
}

// R90
#[tokio::test(start_paused = true)]
async fn a_record_ends_with_its_token() {
    let world = World::new();
    world.process().token().await.unwrap();
    // The token request took 0.2 s.
    assert_eq!(world.server.tokens()[0].keep, ms(1_799_800));
}

// R33, R90: the wall clock is set while the issuer works.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_during_a_token_request_makes_its_token_no_older() {
    let world = World::new();
    world.issuer.set_latency(secs(1));
    let process = world.process();
    let source = process.source.clone();
    let call = tokio::spawn(async move { source.token().await.map(|token| token.expose_secret().to_owned()) });
    sleep(ms(500)).await;
    process.clock.wall_forward(secs(3_000));
    assert_eq!(call.await.unwrap().unwrap(), "first.1");
    // 1 800 s less 1 s less the margin of 30 s.
    assert!(usable_for(&process).abs_diff(1_769) <= 1);
    assert_eq!(world.requests(), 1);
}

// R90: a server rejects a record that is kept for no time at all.
#[tokio::test(start_paused = true)]
async fn a_token_without_a_millisecond_of_life_is_not_stored() {
    for (latency, kept) in [(999, Some(ms(1))), (1_000, None), (2_000, None)] {
        let world = World::new();
        world.issuer.set_lifetime(secs(1));
        world.issuer.set_latency(ms(latency));
        let _ = world.process().token().await;
        assert_eq!(world.server.tokens().first().map(|record| record.keep), kept, "{latency} ms");
    }
}

// R90: a clock that is slewed differs a little. The token has the longer one of the two ages.
#[tokio::test(start_paused = true)]
async fn a_token_is_as_old_as_the_clock_says_that_measures_more() {
    let world = World::new();
    world.issuer.set_latency(ms(500));
    let process = world.process();
    let (token, ()) = tokio::join!(process.token(), async {
        sleep(ms(100)).await;
        process.clock.wall_forward(ms(900));
    });
    token.unwrap();
    // 1 800 s less 1.4 s less the margin of 30 s, and not less 0.5 s.
    assert_eq!(usable_for(&process), 1_769);
}
