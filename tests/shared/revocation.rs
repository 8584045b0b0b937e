//! R87: rejected, invalidated and rotated tokens, and stores that return them again.

use tokio::time::sleep;

use tower_bearer_auth::shared::OnStoreFailure;

use crate::world::{Settings, World, ms, secs, settle, together};

// R87
#[tokio::test(start_paused = true)]
async fn a_revocation_costs_the_fleet_one_token_request_and_no_call() {
    let world = World::new();
    let processes = world.processes(8);
    together(&processes, |process| process.load(ms(10), ms(500))).await;
    assert_eq!(world.requests(), 1);
    let load = together(&processes, |process| process.load(ms(10), secs(4)));
    let revocation = async {
        sleep(ms(1_333)).await;
        world.revoke("first.1");
    };
    let (failed, ()) = tokio::join!(load, revocation);
    assert_eq!(failed, [0; 8]);
    assert_eq!(world.requests(), 2);
}

// R87: MSAL #5179
#[tokio::test(start_paused = true)]
async fn the_store_does_not_bring_a_rejected_token_back() {
    let world = World::new();
    let (one, other) = (world.process(), world.process());
    assert!(one.call().await && other.call().await);
    world.revoke("first.1");
    // Only one process notices. The record of the rejected token is still in the store then.
    assert!(one.call().await);
    assert_eq!((one.token().await.unwrap(), world.requests()), ("first.2".to_owned(), 2));
    // The other one takes the new token.
    assert!(other.call().await);
    assert_eq!((other.token().await.unwrap(), world.requests()), ("first.2".to_owned(), 2));
}

// R87
#[tokio::test(start_paused = true)]
async fn a_replica_that_returns_an_older_token_is_not_believed() {
    let world = World::new();
    let (one, other) = (world.process(), world.process());
    assert!(one.call().await && other.call().await);
    sleep(secs(100)).await;
    world.revoke("first.1");
    assert!(one.call().await && other.call().await);
    let old = world.server.tokens()[0].clone();
    sleep(secs(100)).await;
    world.revoke("first.2");
    // After a failover, the store has the first token again. Both processes know a newer one.
    world.server.put(&old).await;
    let failed = together(&[one, other], |process| process.load(ms(50), secs(5))).await;
    assert_eq!((failed, world.requests()), (vec![0, 0], 3));
}

// R87, R93: a process that starts after the failover cannot know.
#[tokio::test(start_paused = true)]
async fn an_old_record_costs_a_new_process_one_rejection_that_is_replayed() {
    let world = World::new();
    let one = world.process();
    assert!(one.call().await);
    sleep(secs(100)).await;
    world.revoke("first.1");
    assert!(one.call().await);
    world.server.put(&world.server.tokens()[0].clone()).await;
    let sends = world.api.sends().len();
    let late = world.process();
    assert!(late.call().await);
    assert_eq!(world.api.sends().len(), sends + 2, "one rejection, and its replay");
}

// R93
#[tokio::test(start_paused = true)]
async fn many_old_records_cost_a_process_requests_for_a_minute_in_all() {
    let world = World::new();
    let first = world.process();
    for number in 1..=12 {
        assert_eq!(first.token().await.unwrap(), format!("first.{number}"));
        world.revoke(&format!("first.{number}"));
        first.source.invalidate();
        sleep(secs(1)).await;
    }
    world.server.put_back(world.server.tokens());
    let process = world.process();
    let failed = process.load(ms(500), secs(600)).await;
    // The first rejection is replayed with the second old token, and the budget is full again after a minute.
    assert!((1..=121).contains(&failed), "{failed} requests failed");
    assert_eq!(world.requests(), 13);
    // Its own token was accepted. After a revocation it takes the next one from the store again.
    world.server.put_back(Vec::new());
    world.revoke("first.13");
    assert_eq!(first.token().await.unwrap(), "first.13");
    assert!(first.call().await && process.call().await);
    assert_eq!((process.token().await.unwrap(), world.requests()), ("first.14".to_owned(), 14));
}

// R87: for an issuer that revokes the older token, a token of its own would end that of the others.
#[tokio::test(start_paused = true)]
async fn a_process_that_may_not_fetch_alone_takes_the_next_token_from_the_store() {
    let world = World::new();
    let settings = || Settings { on_failure: OnStoreFailure::Fail, ..Settings::default() };
    let (one, other) = (world.process(), world.process_with(settings(), |builder| builder));
    one.token().await.unwrap();
    other.token().await.unwrap();
    one.source.invalidate();
    one.token().await.unwrap();
    world.revoke("first.1");
    world.revoke("first.2");
    assert!(!other.call().await, "the replay has the second token");
    one.source.invalidate();
    one.token().await.unwrap();
    assert_eq!(world.requests(), 3);
    sleep(secs(60)).await;
    assert!(other.call().await);
    assert_eq!((other.token().await.unwrap(), world.requests()), ("first.3".to_owned(), 3));
}

// R87
#[tokio::test(start_paused = true)]
async fn an_invalidated_token_is_not_taken_from_the_store() {
    let world = World::new();
    let (one, other) = (world.process(), world.process());
    assert!(one.call().await && other.call().await);
    sleep(secs(10)).await;
    one.source.invalidate();
    assert_eq!(one.token().await.unwrap(), "first.2");
    other.source.invalidate();
    assert_eq!(other.token().await.unwrap(), "first.2", "it is newer than the one that was invalidated");
    assert_eq!(world.requests(), 2);
}

// R87
#[tokio::test(start_paused = true)]
async fn a_token_that_was_rotated_away_is_not_taken_from_the_store() {
    let world = World::new();
    let processes = world.processes(5);
    together(&processes, |process| process.call()).await;
    sleep(secs(10)).await;
    // Nobody has changed the secret, so the records have the same name.
    for process in &processes {
        process.source.rotate();
    }
    let tokens = together(&processes, |process| process.token()).await;
    assert!(tokens.iter().all(|token| token.as_deref().unwrap() == "first.2"), "{tokens:?}");
    assert_eq!(world.requests(), 2);
}

// R87: the exception that the promise names.
#[tokio::test(start_paused = true)]
async fn two_tokens_that_are_revoked_together_cost_the_replays_of_that_moment() {
    let world = World::new();
    let processes = world.processes(4);
    together(&processes, |process| process.call()).await;
    sleep(secs(1_000)).await;
    // The window has begun: one process fetches the second token, and the others still have the first one.
    assert!(processes[0].call().await);
    sleep(secs(1)).await;
    assert_eq!(world.requests(), 2);
    world.revoke("first.1");
    world.revoke("first.2");
    let failed = together(&processes, |process| process.load(ms(100), secs(30))).await;
    // Rule 21: a process that has both tokens tries one after the other.
    assert!(failed.iter().all(|failed| *failed <= 2), "{failed:?}");
    assert!(world.requests() <= 4, "{} token requests", world.requests());
    settle().await;
}
