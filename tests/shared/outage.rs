//! R89 and R43: a store that fails, hangs, panics, responds late or loses data.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tower_bearer_auth::shared::{Claim, OnStoreFailure, Shared, StoreError, Stored, TokenStore};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, TokenProvider, TokenSource};

use crate::world::{
    Client, Fault, KEY, Outcome, Settings, Stopwatch, World, key, ms, secs, settle, together, tokio_now, unavailable,
};

const DOWN: [Fault; 6] =
    [Fault::Fails, Fault::Hangs, Fault::Panics, Fault::PanicsAtOnce, Fault::Slow(ms(501)), Fault::Late(secs(3))];

// R43, R89
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_is_a_miss() {
    for fault in DOWN {
        let world = World::new();
        let process = world.process();
        process.store.set(fault);
        let begun = Stopwatch::start();
        assert!(process.call().await, "{fault:?}");
        // One call of the store, and the token request.
        assert!(begun.read() <= ms(500 + 200), "{fault:?}: {:?}", begun.read());
        assert_eq!((world.requests(), process.stats().store_failures), (1, 1), "{fault:?}");
    }
}

// R89
#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_but_responds_is_used() {
    let world = World::new();
    let processes = world.processes(3);
    for process in &processes {
        process.store.set(Fault::Slow(ms(400)));
    }
    together(&processes, |process| process.token()).await;
    assert_eq!(world.requests(), 1);
}

// R89
#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_a_store_that_takes_half_a_second_to_store_its_token() {
    let world = World::new();
    let process = world.process();
    process.store.set_for_publish(Fault::Slow(ms(500)));
    let watch = Stopwatch::start();
    process.token().await.unwrap();
    assert_eq!((watch.read(), world.server.tokens().len()), (ms(700), 1));
}

// R89
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_when_a_token_is_published_delays_it_by_half_a_second() {
    for fault in DOWN {
        let world = World::new();
        let process = world.process();
        process.store.set_for_publish(fault);
        let begun = Stopwatch::start();
        assert!(process.call().await, "{fault:?}");
        assert!(begun.read() <= ms(500 + 200), "{fault:?}: {:?}", begun.read());
        assert_eq!(world.requests(), 1, "{fault:?}");
    }
}

/// Several sources over one `Shared`, as the keys of one process.
fn sources(
    world: &World,
    count: usize,
) -> (crate::faulty_store::FaultyStore, Vec<TokenSource<impl TokenProvider<Key = ()>>>) {
    let store = world.server.handle();
    let builder = Shared::builder(Client::new(&world.issuer), store.clone()).sealing_key(key(KEY));
    let shared = Arc::new(builder.build().unwrap());
    let sources = (0..count).map(|_| TokenSource::new(Arc::clone(&shared))).collect();
    (store, sources)
}

// R89: Duende Support #684
#[tokio::test(start_paused = true)]
async fn after_a_failure_no_fetch_uses_the_store_for_five_seconds_and_then_one_tries_it() {
    let world = World::new();
    world.issuer.set_latency(ms(0));
    let (store, sources) = sources(&world, 7);
    store.set(Fault::Fails);
    store.set_for_publish(Fault::Hangs);
    sources[0].token().await.unwrap();
    settle().await;
    // The claim, and the attempt to publish in the background.
    assert_eq!(store.calls(), 2);
    let claims = || world.server.names().len();
    sleep(ms(4_900)).await;
    let before = store.calls();
    sources[1].token().await.unwrap();
    sources[2].token().await.unwrap();
    assert_eq!(store.calls(), before);
    sleep(ms(100)).await;
    store.set(Fault::Hangs);
    let (tried, took) = tokio::join!(sources[3].token(), async {
        sleep(ms(1)).await;
        let begun = Stopwatch::start();
        sources[4].token().await.unwrap();
        begun.read()
    });
    tried.unwrap();
    assert!(took <= ms(5), "only the fetch that tries the store waits for it: {took:?}");
    assert_eq!(claims(), 0);
    // The store is back, and every fetch uses it again.
    store.set(Fault::None);
    store.set_for_publish(Fault::None);
    sleep(secs(6)).await;
    let before = store.calls();
    sources[5].token().await.unwrap();
    assert_eq!(store.calls(), before + 1);
    sources[6].token().await.unwrap();
    assert_eq!(store.calls(), before + 2);
}

// R33, R89: a clock that is set back does not keep the store closed.
#[tokio::test(start_paused = true)]
async fn after_a_failure_a_monotonic_clock_that_is_set_back_does_not_keep_the_store_closed() {
    // 65 s is what a clock may be behind.
    for (back, calls) in [(60, 0), (61, 1), (3_600, 1)] {
        let world = World::new();
        world.issuer.set_latency(ms(0));
        let process = world.process();
        process.store.set(Fault::Fails);
        process.store.set_for_publish(Fault::Fails);
        process.token().await.unwrap();
        process.store.set(Fault::None);
        process.store.set_for_publish(Fault::None);
        settle().await;
        let before = process.store.calls();
        process.clock.mono_back(secs(back));
        process.source.rotate();
        process.token().await.unwrap();
        assert_eq!((process.store.calls() - before).min(1), calls, "{back} s");
    }
}

// R89
#[tokio::test(start_paused = true)]
async fn without_the_store_a_process_calls_the_issuer_no_more_often_than_alone() {
    let count = |fault| async move {
        let world = World::new();
        world.issuer.set_lifetime(secs(60));
        world.issuer.script_with(|request| match request.at.as_secs() {
            200..400 => Outcome::Fail(unavailable()),
            _ => Outcome::Mint,
        });
        let process = world.process_with(Settings::default(), |builder| builder.jitter_seed(7));
        process.store.set(fault);
        let failed = process.load(ms(500), secs(600)).await;
        (world.requests(), failed)
    };
    let (alone, _) = {
        let world = World::new();
        world.issuer.set_lifetime(secs(60));
        world.issuer.script_with(|request| match request.at.as_secs() {
            200..400 => Outcome::Fail(unavailable()),
            _ => Outcome::Mint,
        });
        let source = TokenSource::builder(world.issuer.clone()).jitter_seed(7).build();
        let until = tokio_now() + secs(600);
        let mut failed = 0;
        while tokio_now() < until {
            failed += usize::from(source.token().await.is_err());
            sleep(ms(500)).await;
        }
        (world.requests(), failed)
    };
    for fault in [Fault::Fails, Fault::Hangs, Fault::LosesData] {
        let (requests, _) = count(fault).await;
        assert!(requests <= alone + 2, "{fault:?}: {requests} token requests, and {alone} without a store");
    }
}

// R89
#[tokio::test(start_paused = true)]
async fn a_process_may_fail_rather_than_fetch_alone() {
    let world = World::new();
    let settings = Settings { on_failure: OnStoreFailure::Fail, ..Settings::default() };
    let process = world.process_with(settings, |builder| builder.patience(ms(0)).jitter_seed(1));
    process.store.set(Fault::Fails);
    let error = process.source.token().await.unwrap_err();
    assert!(error.is_transient() && error.kind() == ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().starts_with("the shared store failed"), "{error}");
    assert_eq!(world.requests(), 0);
    // Rule 6, and not the 5 s: the first backoff is at most half a second.
    process.store.set(Fault::None);
    sleep(ms(500)).await;
    assert!(process.call().await);
    assert_eq!(world.requests(), 1);
}

// R89: the token exists, and the issuer has revoked the older one.
#[tokio::test(start_paused = true)]
async fn a_process_that_may_not_fetch_alone_uses_a_token_that_it_could_not_publish() {
    let world = World::new();
    let settings = || Settings { on_failure: OnStoreFailure::Fail, ..Settings::default() };
    let process = world.process_with(settings(), |builder| builder);
    process.store.set_for_publish(Fault::Fails);
    assert!(process.call().await);
    // It is published when the store responds again.
    process.store.set_for_publish(Fault::None);
    sleep(secs(2)).await;
    assert_eq!(world.process_with(settings(), |builder| builder).token().await.unwrap(), "first.1");
    assert_eq!(world.requests(), 1);
}

// R89
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_carried_out_late_does_not_keep_the_others_waiting() {
    let world = World::new();
    let late = world.process();
    // The store stands still for a while, and carries the claim out when it goes on.
    late.store.set(Fault::Late(ms(2_000)));
    late.store.set_for_publish(Fault::Late(ms(1_500)));
    assert!(late.call().await);
    sleep(secs(3)).await;
    // The lease of the late claim lives 4 s, and was released when the token was published.
    let begun = Stopwatch::start();
    assert_eq!(world.process().token().await.unwrap(), "first.1");
    assert!(begun.read() <= ms(100), "{:?}", begun.read());
    assert_eq!(world.requests(), 1);
}

// R89
#[tokio::test(start_paused = true)]
async fn a_claim_whose_response_is_lost_does_not_keep_the_others_waiting() {
    let world = World::new();
    let process = world.process();
    process.store.set(Fault::NoResponse);
    process.store.set_for_publish(Fault::None);
    assert!(process.call().await);
    settle().await;
    let begun = Stopwatch::start();
    assert_eq!(world.process().token().await.unwrap(), "first.1");
    assert_eq!((begun.read(), world.requests()), (ms(0), 1));
}

// R89
#[tokio::test(start_paused = true)]
async fn a_store_that_restarts_empty_costs_one_token_request_per_renewal_and_no_call() {
    let world = World::new();
    let processes = world.processes(5);
    let load = together(&processes, |process| process.load(secs(5), secs(3_600)));
    let restarts = async {
        for _ in 0..30 {
            sleep(secs(115)).await;
            world.server.lose_everything();
        }
    };
    let (failed, ()) = tokio::join!(load, restarts);
    assert_eq!(failed, [0; 5]);
    // Without a store, it would be 5 processes x 5.
    assert!(world.requests() <= 25, "{} token requests", world.requests());
}

// R89, R93
#[tokio::test(start_paused = true)]
async fn an_invalid_record_is_a_miss_for_its_name_only() {
    let world = World::new();
    let process = world.process();
    process.token().await.unwrap();
    let mut record = world.server.tokens()[0].clone();
    for bytes in [Vec::new(), vec![0; 10], vec![1; 300], record.bytes[..40].to_vec()] {
        record.bytes = bytes;
        world.server.put(&record).await;
        let other = world.process();
        assert!(other.call().await);
        assert_eq!(other.stats().store_unopened, 1);
        assert_eq!(other.stats().store_failures, 0);
    }
    assert_eq!(world.requests(), 5);
    // Each of them was replaced.
    assert_eq!(world.process().token().await.unwrap(), "first.5");
}

// R89
#[tokio::test]
async fn outside_of_a_source_a_fetch_works_too() {
    let world = World::new();
    world.issuer.set_latency(ms(0));
    let shared = Shared::builder(Client::new(&world.issuer), world.server.handle()).sealing_key(key(KEY));
    let shared = shared.build().unwrap();
    for _ in 0..2 {
        let token = shared.fetch(&(), &FetchContext::default()).await.unwrap();
        assert_eq!(token.expose_secret(), "first.1");
    }
}

/// A store whose `claim` returns what this function makes of the number of the call.
struct Scripted<F>(Arc<AtomicUsize>, F);

impl<F: Fn(usize) -> Claim + Send + Sync + 'static> TokenStore for Scripted<F> {
    async fn claim(&self, _: &str, _: &[u8; 16], _: Duration, _: Option<[u8; 16]>) -> Result<Claim, StoreError> {
        Ok((self.1)(self.0.fetch_add(1, Ordering::SeqCst)))
    }

    async fn publish(
        &self,
        _: &str,
        _: &[u8; 16],
        _: tower_bearer_auth::shared::Outcome<'_>,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// One fetch of a process whose store is `claim`. Returns its result, its time, and the calls of the issuer and of `claim`.
async fn fetch_with(
    on_failure: OnStoreFailure,
    claim: impl Fn(usize) -> Claim + Send + Sync + 'static,
) -> (Result<String, Error>, Duration, usize, usize) {
    let (world, calls) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let builder = Shared::builder(Client::new(&world.issuer), Scripted(Arc::clone(&calls), claim));
    let shared = builder.sealing_key(key(KEY)).on_store_failure(on_failure).build().unwrap();
    let source = TokenSource::builder(shared).patience(ms(0)).build();
    let begun = Stopwatch::start();
    let token = source.token().await.map(|token| token.expose_secret().to_owned());
    (token, begun.read(), world.requests(), calls.load(Ordering::SeqCst))
}

/// Another record each time, which does not open.
fn useless(number: usize) -> Claim {
    let version = (number as u128).to_be_bytes();
    Claim::Token(Stored { version, bytes: vec![1; 100], left: secs(60) })
}

// R89
#[tokio::test(start_paused = true)]
async fn a_store_that_returns_useless_records_without_end_is_given_up() {
    let (token, _, requests, calls) = fetch_with(OnStoreFailure::FetchAlone, useless).await;
    assert_eq!((token.unwrap().as_str(), requests), ("first.1", 1));
    assert_eq!(calls, 10);
}

// R89
#[tokio::test(start_paused = true)]
async fn a_process_that_may_not_fetch_alone_fails_if_the_store_returns_only_useless_records() {
    // A store that returns the version that the claim has seen is of no use, either.
    for claim in [useless as fn(usize) -> Claim, |_| useless(1)] {
        let (token, _, requests, calls) = fetch_with(OnStoreFailure::Fail, claim).await;
        let error = token.unwrap_err();
        assert!(error.is_transient() && error.kind() == ErrorKind::Unavailable, "{error}");
        assert_eq!(requests, 0);
        assert!((1..=10).contains(&calls), "{calls} calls");
    }
}

// R88, R89: an operator removed the expiry of a lease, or the store does not have one.
#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_end_is_not_waited_for() {
    for left in [ms(5_001), secs(3_600), Duration::MAX] {
        let (token, took, requests, _) = fetch_with(OnStoreFailure::FetchAlone, move |_| Claim::Wait(left)).await;
        assert_eq!((token.unwrap().as_str(), requests, took), ("first.1", 1, ms(200)), "{left:?}");
        let (token, took, requests, _) = fetch_with(OnStoreFailure::Fail, move |_| Claim::Wait(left)).await;
        assert_eq!((token.unwrap_err().kind(), requests, took), (ErrorKind::Unavailable, 0, ms(0)), "{left:?}");
    }
}

// R88: etcd counts whole seconds.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_life_is_rounded_up_is_waited_for() {
    let begun = Stopwatch::start();
    let claim = move |_| if begun.read() < secs(4) { Claim::Wait(secs(5)) } else { Claim::Lease };
    let (token, took, requests, _) = fetch_with(OnStoreFailure::FetchAlone, claim).await;
    assert_eq!((token.unwrap().as_str(), requests), ("first.1", 1));
    assert!(took >= secs(4), "{took:?}");
}
