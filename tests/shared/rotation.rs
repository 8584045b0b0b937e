//! R94: old and new secret, side by side and during a fetch.

use tokio::time::sleep;

use crate::world::{World, ms, secs, settle, together};

// R94
#[tokio::test(start_paused = true)]
async fn a_process_with_the_new_secret_does_not_see_tokens_of_the_old_one() {
    let world = World::new();
    let (old, new) = (world.process(), world.process());
    assert_eq!(old.token().await.unwrap(), "first.1");
    new.client.set_secret("new secret");
    assert_eq!(new.token().await.unwrap(), "first.2");
    assert_eq!(world.server.names().len(), 2);
    // Each side shares its own.
    let (also_old, also_new) = (world.process(), world.process());
    also_new.client.set_secret("new secret");
    assert_eq!(
        (also_old.token().await.unwrap().as_str(), also_new.token().await.unwrap().as_str()),
        ("first.1", "first.2")
    );
    assert_eq!(world.requests(), 2);
}

// R94
#[tokio::test(start_paused = true)]
async fn a_rotation_of_the_whole_fleet_costs_one_token_request() {
    let world = World::new();
    let processes = world.processes(10);
    together(&processes, |process| process.token()).await;
    sleep(secs(60)).await;
    for process in &processes {
        process.client.set_secret("new secret");
        process.source.rotate();
    }
    let tokens = together(&processes, |process| process.token()).await;
    assert!(tokens.iter().all(|token| token.as_deref().unwrap() == "first.2"), "{tokens:?}");
    assert_eq!(world.requests(), 2);
}

// R94
#[tokio::test(start_paused = true)]
async fn a_token_of_credentials_that_changed_during_the_fetch_is_not_published() {
    let world = World::new();
    let process = world.process();
    let (token, ()) = tokio::join!(process.token(), async {
        sleep(ms(100)).await;
        process.client.set_secret("new secret");
    });
    // The callers get it, as without a store.
    assert_eq!(token.unwrap(), "first.1");
    assert!(world.server.published().is_empty());
    // The lease is released, so nobody waits for it.
    let begun = crate::world::Stopwatch::start();
    assert_eq!(world.process().token().await.unwrap(), "first.2");
    assert_eq!(begun.read(), ms(200));
    settle().await;
}

// R92
#[tokio::test(start_paused = true)]
async fn processes_with_different_namespaces_share_nothing() {
    let world = World::new();
    let settings = |namespace| crate::world::Settings { namespace, ..crate::world::Settings::default() };
    let (one, other) = (
        world.process_with(settings("production"), |builder| builder),
        world.process_with(settings("staging"), |builder| builder),
    );
    assert_ne!(one.token().await.unwrap(), other.token().await.unwrap());
}
