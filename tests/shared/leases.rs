//! R88: leases that end, that are lost, and whose holders die.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;
use tower_bearer_auth::shared::{Identity, MemoryStore, Shareable, Shared};
use tower_bearer_auth::{Error, FetchContext, IssuedToken, TokenProvider, TokenSource};

use crate::support::issuer::issuer;
use crate::world::{Fault, KEY, Outcome, Stopwatch, World, key, ms, secs, settle, together, unavailable};

// R88: LiteLLM #31493, sim #4722
#[tokio::test(start_paused = true)]
async fn a_token_request_that_takes_longer_than_a_lease_is_not_repeated() {
    let world = World::new();
    world.issuer.set_latency(secs(10));
    let processes = world.processes(20);
    let tokens = together(&processes, |process| process.token()).await;
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!(world.requests(), 1);
}

// R88
#[tokio::test(start_paused = true)]
async fn a_holder_that_is_killed_delays_the_others_by_the_life_of_a_lease() {
    let world = World::new();
    world.issuer.script(Outcome::Hold);
    let holder = world.process();
    let waits = tokio::spawn({
        let source = holder.source.clone();
        async move { source.token().await }
    });
    world.issuer.wait_held(1).await;
    let processes = world.processes(8);
    let begun = Stopwatch::start();
    let calls = together(&processes, |process| process.call());
    let kill = async {
        sleep(ms(500)).await;
        waits.abort();
        holder.kill();
    };
    let (calls, ()) = tokio::join!(calls, kill);
    assert_eq!(calls, [true; 8]);
    // A lease lives 4 s. The token request takes 0.2 s, and the longest wait for the next look 0.6 s, twice.
    let took = begun.read();
    assert!(took <= ms(4_000 + 200 + 1_200), "{took:?}");
    assert_eq!(world.requests(), 2);
}

// R88: a store that counts whole seconds says in the last one that the lease has no time left.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_rounded_down_does_not_make_a_process_ask_the_store_all_the_time() {
    let world = World::new();
    world.server.round();
    world.issuer.script(Outcome::Hold);
    let holder = world.process();
    let waits = tokio::spawn({
        let source = holder.source.clone();
        async move { source.token().await }
    });
    world.issuer.wait_held(1).await;
    waits.abort();
    holder.kill();
    let other = world.process();
    assert!(other.call().await);
    // 11 while the lease has a second left, and one every 0.05 s in its last second.
    assert!(other.store.calls() <= 11 + 25, "{} calls", other.store.calls());
}

// R88
#[tokio::test(start_paused = true)]
async fn a_short_timeout_of_fetches_makes_a_short_lease() {
    let world = World::new();
    world.issuer.script(Outcome::Hold);
    let settings = || crate::world::Settings::default();
    let holder = world.process_with(settings(), |builder| builder.fetch_timeout(secs(3)));
    let waits = tokio::spawn({
        let source = holder.source.clone();
        async move { source.token().await }
    });
    world.issuer.wait_held(1).await;
    waits.abort();
    holder.kill();
    let begun = Stopwatch::start();
    let other = world.process_with(settings(), |builder| builder.fetch_timeout(secs(3)));
    assert!(other.call().await);
    // The other process looks again when the lease is over, and not later.
    assert!(begun.read() <= ms(1_000 + 200 + 10), "{:?}", begun.read());
}

// R88
#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_delays_nobody_with_a_usable_token() {
    let world = World::new();
    let processes = world.processes(4);
    together(&processes, |process| process.call()).await;
    sleep(secs(1_000)).await;
    world.issuer.script(Outcome::Hang);
    let mut processes = processes.into_iter();
    let holder = processes.next().unwrap();
    assert!(holder.call().await);
    settle().await;
    assert_eq!(world.issuer.running(), 1);
    holder.kill();
    let processes: Vec<_> = processes.collect();
    let begun = Stopwatch::start();
    assert_eq!(together(&processes, |process| process.call()).await, [true; 3]);
    assert_eq!(begun.read(), ms(0));
}

// R88
#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_dropped_releases_its_lease() {
    let world = World::new();
    world.issuer.script(Outcome::Hang);
    let first = world.process();
    let waits = tokio::spawn({
        let source = first.source.clone();
        async move { source.token().await }
    });
    settle().await;
    assert_eq!(world.issuer.running(), 1);
    waits.abort();
    drop(first.source);
    settle().await;
    let begun = Stopwatch::start();
    assert!(world.process().call().await);
    assert_eq!(begun.read(), ms(200), "the next one got the lease at once");
}

// R88: Duende Support #1286
#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_its_lease_does_not_replace_a_newer_token() {
    let world = World::new();
    world.issuer.set_latency(ms(900));
    let (first, second) = (world.process(), world.process());
    let (of_first, of_second) = tokio::join!(first.token(), async {
        sleep(ms(300)).await;
        world.server.lose_everything();
        world.issuer.set_latency(ms(200));
        second.token().await
    });
    // Both processes fetched, and both go on with the newer token.
    assert_eq!(world.requests(), 2);
    assert_eq!((of_first.unwrap().as_str(), of_second.unwrap().as_str()), ("first.2", "first.2"));
    assert_eq!(world.process().token().await.unwrap(), "first.2");
}

// R88
#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_its_lease_takes_no_token_that_is_older_than_its_own() {
    let world = World::new();
    world.process().token().await.unwrap();
    sleep(secs(100)).await;
    let mut old = world.server.tokens()[0].clone();
    old.keep -= secs(100);
    world.server.lose_everything();
    world.issuer.set_latency(ms(900));
    let second = world.process();
    let (token, ()) = tokio::join!(second.token(), async {
        sleep(ms(300)).await;
        // A failover to a replica that has not lost everything.
        world.server.lose_everything();
        world.server.put(&old).await;
    });
    assert_eq!(token.unwrap(), "first.2");
}

// R88
#[tokio::test(start_paused = true)]
async fn a_holder_whose_lease_is_gone_publishes_under_a_new_one() {
    let world = World::new();
    world.issuer.set_latency(ms(900));
    let first = world.process();
    let (token, ()) = tokio::join!(first.token(), async {
        sleep(ms(300)).await;
        world.server.lose_everything();
    });
    assert_eq!(token.unwrap(), "first.1");
    assert_eq!(world.process().token().await.unwrap(), "first.1");
    assert_eq!(world.requests(), 1);
}

// R88: a note that ends while its reader holds the lease is not a result of somebody else.
#[tokio::test(start_paused = true)]
async fn a_holder_keeps_its_lease_when_a_note_that_it_ignored_ends() {
    let world = World::new();
    world.issuer.script(Outcome::Mint);
    let (one, other, third) = (world.process(), world.process(), world.process());
    assert!(one.call().await && other.call().await && third.call().await);
    sleep(secs(10)).await;
    let wrong = Error::permanent("wrong secret").with_kind(tower_bearer_auth::ErrorKind::InvalidCredentials);
    world.issuer.script(Outcome::Fail(wrong));
    one.source.invalidate();
    one.token().await.unwrap_err();
    // The rotation ignores the note, and its token request takes longer than the note lasts.
    world.issuer.set_latency(secs(11));
    other.source.rotate();
    let (token, late) = tokio::join!(other.token(), async {
        // The note is over for 4.5 s, which is longer than a lease that nobody renews.
        sleep(ms(9_500)).await;
        third.source.invalidate();
        third.token().await
    });
    assert_eq!((token.unwrap().as_str(), late.unwrap().as_str()), ("first.3", "first.3"));
    assert_eq!(world.requests(), 3);
}

// R88
#[test]
fn a_runtime_that_ends_during_a_fetch_delays_the_next_one_by_the_life_of_a_lease() {
    let (provider, requests) = issuer(|number| async move {
        if number == 1 {
            std::future::pending::<()>().await;
        }
        Ok::<IssuedToken, Error>(IssuedToken::bearer("a")?.expires_in(secs(1800)))
    });
    let shared = Shared::builder(provider.identified_by(Identity::new("https://issuer.test")), MemoryStore::new());
    let source = TokenSource::new(shared.sealing_key(key(KEY)).build().unwrap());
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    run().block_on(async {
        tokio::time::timeout(ms(100), source.token()).await.unwrap_err();
    });
    let took = run().block_on(async {
        let begun = Stopwatch::start();
        source.token().await.unwrap();
        begun.read()
    });
    assert!(took <= secs(5), "{took:?}");
    assert_eq!(requests.count(), 2);
}

// R88: publishing needs the lease.
#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_its_lease_does_not_disturb_the_next_one() {
    let world = World::new();
    world.issuer.set_latency(secs(8));
    let (first, second) = (world.process(), world.process());
    let (of_first, of_second) = tokio::join!(first.token(), async {
        sleep(secs(1)).await;
        first.store.set(Fault::Fails);
        sleep(secs(4)).await;
        world.issuer.set_latency(ms(200));
        let token = second.token().await;
        first.store.set(Fault::None);
        token
    });
    assert_eq!((of_first.unwrap().as_str(), of_second.unwrap().as_str()), ("first.2", "first.2"));
    assert_eq!(world.server.tokens().len(), 1, "only the second one published");
}

// R88: the token exists, so nothing that follows may keep it from its caller.
#[tokio::test(start_paused = true)]
async fn a_token_is_returned_in_time_if_its_lease_is_lost_and_the_store_is_slow() {
    let world = World::new();
    world.issuer.set_latency(secs(11));
    let first = world.process_with(crate::world::Settings::default(), |builder| builder.fetch_timeout(secs(12)));
    first.store.set(Fault::Slow(ms(400)));
    let begun = Stopwatch::start();
    let (token, ()) = tokio::join!(first.token(), async {
        sleep(ms(11_350)).await;
        world.server.lose_everything();
    });
    assert_eq!((token.unwrap().as_str(), world.requests()), ("first.1", 1));
    assert!(begun.read() < secs(12), "{:?}", begun.read());
    // It is published in a task.
    sleep(secs(2)).await;
    assert_eq!(world.process().token().await.unwrap(), "first.1");
}

/// Its second identity is never known.
struct Hanging(crate::support::issuer::Issuer, AtomicUsize);

impl TokenProvider for Hanging {
    type Key = ();

    async fn fetch(&self, key: &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        self.0.fetch(key, cx).await
    }
}

impl Shareable for Hanging {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        if self.1.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
            std::future::pending::<()>().await;
        }
        Ok(Identity::new("https://issuer.test/token"))
    }
}

// R88, R94: credentials that cannot be loaded again.
#[tokio::test(start_paused = true)]
async fn a_token_is_returned_if_its_identity_cannot_be_computed_again() {
    // With a store that responds, and with one that does not.
    for fault in [Fault::None, Fault::Fails] {
        let world = World::new();
        let store = world.server.handle();
        store.set(fault);
        let provider = Hanging(world.issuer.clone(), AtomicUsize::new(0));
        let shared = Shared::builder(provider, store.clone()).sealing_key(key(KEY)).build().unwrap();
        let source = TokenSource::new(shared);
        let begun = Stopwatch::start();
        assert_eq!(source.token().await.unwrap().expose_secret(), "first.1");
        assert!(begun.read() <= ms(200 + 550), "{fault:?}: {:?}", begun.read());
        store.set(Fault::None);
        // Nothing was published, and the lease was released.
        source.invalidate();
        let begun = Stopwatch::start();
        assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
        assert!(begun.read() <= ms(200 + 550), "{fault:?}: {:?}", begun.read());
    }
}

// R88: 50, 100, 200, 400 and then 500 ms, each a fifth more or less.
#[tokio::test(start_paused = true)]
async fn a_process_that_waits_asks_the_store_about_twice_a_second() {
    let world = World::new();
    world.issuer.set_latency(secs(10));
    let (first, second) = (world.process(), world.process());
    let (_, waited) = tokio::join!(first.token(), async {
        settle().await;
        second.token().await
    });
    waited.unwrap();
    let calls = second.store.calls();
    assert!((19..=28).contains(&calls), "{calls} calls in 10 s");
}

// R88
#[tokio::test(start_paused = true)]
async fn processes_that_wait_do_not_all_ask_the_store_at_the_same_moment() {
    let world = World::new();
    world.issuer.set_latency(secs(1));
    let processes = world.processes(101);
    together(&processes, |process| process.token()).await;
    let first_wait = |process: &crate::world::Process| process.store.call_times()[1] - process.store.call_times()[0];
    let waits: Vec<_> = processes[1..].iter().map(first_wait).collect();
    // 50 ms, a fifth more or less.
    let (shortest, longest) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
    assert!(shortest >= ms(40) && shortest <= ms(45), "{shortest:?}");
    assert!(longest >= ms(55) && longest <= ms(61), "{longest:?}");
}

// R88, R95: another process may have the lease by then.
#[tokio::test(start_paused = true)]
async fn a_failure_that_is_late_needs_the_lease_of_its_claim() {
    let world = World::new();
    world.issuer.script(Outcome::Fail(unavailable()));
    let process = world.process_with(crate::world::Settings::default(), |builder| builder.patience(ms(0)));
    process.store.set(Fault::Fails);
    let (token, ()) = tokio::join!(process.token(), async {
        sleep(ms(100)).await;
        process.store.set(Fault::None);
    });
    token.unwrap_err();
    sleep(secs(60)).await;
    // The claim was never carried out, so nothing is published under it.
    assert!(world.server.published().is_empty());
    assert_eq!(process.store.calls(), 2);
}

// R88
#[tokio::test(start_paused = true)]
async fn a_token_that_is_published_late_is_published_once() {
    let world = World::new();
    let process = world.process();
    process.store.set_for_publish(Fault::Fails);
    process.token().await.unwrap();
    process.store.set_for_publish(Fault::None);
    sleep(secs(60)).await;
    assert_eq!(world.server.tokens().len(), 1);
    // The claim, two calls that failed, and one that did not.
    assert_eq!(process.store.calls(), 4);
}
