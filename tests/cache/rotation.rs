//! Credentials and tokens that are replaced while requests are sent.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::{interval, sleep};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, IssuedToken, Secret, TokenProvider, TokenSource, from_fn};

use crate::common::{
    Api, Issuer, ORIGIN, Outcome, Stopwatch, TestClock, assert_reconciles, get, layer, ms, secs, settle, unavailable,
};
use crate::support::wait::eventually;

// R50
#[tokio::test(start_paused = true)]
async fn waiters_of_a_fetch_with_the_old_secret_get_a_token_with_the_new_one() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let watch = Stopwatch::start();
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
        })
        .collect();
    sleep(ms(150)).await;
    issuer.set_credential("second");
    source.rotate();
    for secret in join_all(waiters).await {
        assert_eq!(secret.unwrap(), "second.2");
    }
    assert_eq!(watch.read(), ms(350));
    assert_eq!((issuer.requests(), issuer.dropped()), (2, 1));
    let stats = assert_reconciles(&source);
    assert_eq!((stats.fetches_discarded, stats.waits, stats.waits_served), (1, 100, 100));
}

// R50
#[tokio::test(start_paused = true)]
async fn a_token_that_arrived_just_before_a_rotation_is_not_returned_to_a_waiter() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let mut waiter = tokio_test::task::spawn(source.token());
    assert!(waiter.poll().is_pending());
    sleep(ms(201)).await;
    assert!(source.peek().is_some() && waiter.is_woken());
    issuer.set_credential("second");
    source.rotate();
    assert!(waiter.poll().is_pending());
    assert_eq!(waiter.await.unwrap().expose_secret(), "second.2");
    assert_reconciles(&source);
}

// An invalidated token must not be used, not even by a caller that waited for it.
#[tokio::test(start_paused = true)]
async fn a_token_that_arrived_just_before_an_invalidation_is_not_returned_to_a_waiter() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let mut waiter = tokio_test::task::spawn(source.token());
    assert!(waiter.poll().is_pending());
    sleep(ms(201)).await;
    let arrived = source.peek().unwrap();
    assert!(waiter.is_woken());
    source.invalidate();
    assert!(waiter.poll().is_pending());
    assert_ne!(waiter.await.unwrap().generation(), arrived.generation());
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// R50: the key was evicted when the token arrived, so a rotation does not visit its slot.
#[tokio::test(start_paused = true)]
async fn a_token_of_an_evicted_key_is_not_used_after_a_rotation() {
    let (issuer, clock, api) = (Issuer::for_users(), TestClock::new(), Api::new(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).max_keys(1).build();
    let of = |user: u32| {
        let mut request = get();
        request.extensions_mut().insert(user);
        request
    };
    source.warm_up_for(&ExtensionKey(2)).await.unwrap();
    let mut waiting =
        tokio_test::task::spawn(source.layer().allow_origin(ORIGIN).unwrap().layer(api.clone()).oneshot(of(1)));
    assert!(waiting.poll().is_pending());
    clock.mono_forward(secs(2));
    source.warm_up_for(&ExtensionKey(2)).await.unwrap();
    sleep(ms(201)).await;
    assert_eq!((source.stats().evicted, source.stats().fetches_succeeded), (1, 2));
    issuer.set_credential("second");
    source.rotate();
    waiting.await.unwrap();
    assert_eq!(api.authorizations(), ["Bearer second.1.3"]);
}

// R50: a token that arrived after usable_until is in no slot, so a rotation does not remove it.
#[tokio::test(start_paused = true)]
async fn a_token_for_waiters_only_is_not_used_after_a_rotation() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_lifetime(secs(10));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let mut waiter = tokio_test::task::spawn(source.token());
    assert!(waiter.poll().is_pending());
    settle().await;
    clock.mono_forward(secs(8));
    sleep(ms(201)).await;
    assert!(waiter.is_woken() && source.peek().is_none(), "it arrived after usable_until");
    issuer.set_credential("second");
    source.rotate();
    assert_eq!(waiter.await.unwrap().expose_secret(), "second.2");
}

// R50
#[tokio::test(start_paused = true)]
async fn without_a_waiter_neither_a_rotation_nor_an_invalidation_starts_a_fetch() {
    for forget in [TokenSource::<Issuer>::rotate, TokenSource::<Issuer>::invalidate] {
        let issuer = Issuer::new();
        let source = TokenSource::new(issuer.clone());
        forget(&source);
        assert!(source.token().now_or_never().is_none());
        settle().await;
        forget(&source);
        sleep(secs(60)).await;
        assert_eq!((issuer.requests(), issuer.running()), (1, 0));
        assert!(source.peek().is_none());
        source.token().await.unwrap();
        forget(&source);
        sleep(secs(60)).await;
        assert_eq!(issuer.requests(), 2);
        assert_reconciles(&source);
    }
}

// R50
#[tokio::test(start_paused = true)]
async fn no_call_that_starts_after_a_rotation_gets_a_token_of_the_old_secret() {
    for warm in [false, true] {
        // At each moment before, during and after the 200 ms of the fetch.
        for rotated_after in (0..=300).step_by(10).map(ms) {
            let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(1));
            let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
            let client = layer(&source).layer(api.clone());
            if warm {
                client.clone().oneshot(get()).await.unwrap();
                clock.mono_forward(secs(1100));
            }
            let early = tokio::spawn(client.clone().oneshot(get()));
            settle().await;
            sleep(rotated_after).await;
            issuer.set_credential("second");
            source.rotate();
            let before = api.authorizations().len();
            let late = join_all((0..5).map(|_| tokio::spawn(client.clone().oneshot(get())))).await;
            assert!(late.into_iter().all(|response| response.unwrap().is_ok()));
            early.await.unwrap().unwrap();
            for stamp in &api.authorizations()[before..] {
                assert!(stamp.starts_with("Bearer second."), "{stamp} after a rotation at {rotated_after:?}");
            }
            assert!(source.peek().unwrap().expose_secret().starts_with("second."));
            assert!(issuer.requests() <= 3);
            assert_eq!(assert_reconciles(&source).waits_failed, 0);
        }
    }
}

async fn secret_of(source: TokenSource<impl TokenProvider<Key = ()>>) -> String {
    source.token().await.unwrap().expose_secret().to_owned()
}

// R50, R68: the next fetch starts after the cancelled or outdated one has ended, so that no two fetches of a key run at once.
#[test]
fn a_stale_fetch_that_cannot_be_stopped_delays_the_next_one_and_stores_nothing() {
    for rotated in [true, false] {
        // Before the gates, so that a failed assertion opens them before the runtime waits for its threads.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let (entered, has_entered) = mpsc::channel();
        let ((release_old, old), (release_new, new)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let gates = Mutex::new(vec![("new", new), ("old", old)]);
        let source = TokenSource::new(from_fn(move || {
            // Blocks its thread, so that nothing can drop the fetch before it has its token.
            let (secret, gate) = gates.lock().unwrap().pop().unwrap();
            entered.send(secret).unwrap();
            gate.recv().unwrap();
            async move { IssuedToken::bearer(secret) }
        }));
        let waiting = |count| {
            let there = || source.stats().waiting == count;
            assert!(
                (0..10_000_000).any(|_| there() || {
                    std::thread::yield_now();
                    false
                }),
                "not {count} waiters"
            );
        };
        let early = runtime.spawn(secret_of(source.clone()));
        assert_eq!(has_entered.recv_timeout(secs(30)).unwrap(), "old");
        if rotated {
            source.rotate()
        } else {
            source.invalidate()
        }
        let late = runtime.spawn(secret_of(source.clone()));
        waiting(2);
        assert!(has_entered.try_recv().is_err(), "a second fetch beside the first");
        release_old.send(()).unwrap();
        assert_eq!(has_entered.recv_timeout(secs(30)).unwrap(), "new");
        assert!(source.peek().is_none());
        release_new.send(()).unwrap();
        assert_eq!(runtime.block_on(late).unwrap(), "new");
        // A caller that began to wait before an invalidation gets the token of its fetch.
        assert_eq!(runtime.block_on(early).unwrap(), if rotated { "new" } else { "old" });
        assert_eq!(source.peek().unwrap().expose_secret(), "new");
        let stats = source.stats();
        let discarded = u64::from(rotated);
        assert_eq!((stats.fetches, stats.fetches_discarded, stats.fetches_succeeded), (2, discarded, 2 - discarded));
    }
}

// R80: a cancelled fetch that rotates must not count as the running one.
#[test]
fn a_cancelled_fetch_that_rotates_ends_and_the_next_one_serves_everyone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let (entered, has_entered) = mpsc::channel();
    let (release_old, old) = mpsc::channel::<()>();
    let source = Arc::new(std::sync::OnceLock::<TokenSource<tower_bearer_auth::DynProvider<()>>>::new());
    let (itself, fetches) = (Arc::clone(&source), Arc::new(Mutex::new((0, Some(old)))));
    let provider = from_fn(move || {
        let (number, gate) = {
            let mut fetches = fetches.lock().unwrap();
            fetches.0 += 1;
            (fetches.0, fetches.1.take())
        };
        entered.send(number).unwrap();
        if let Some(gate) = gate {
            // Blocks its thread, so that nothing can drop the stale fetch before it rotates.
            gate.recv().unwrap();
            itself.get().unwrap().rotate();
            entered.send(0).unwrap();
        }
        async move { IssuedToken::bearer(format!("fetch-{number}")) }
    });
    let source = source.get_or_init(|| TokenSource::new(tower_bearer_auth::DynProvider::new(provider))).clone();
    let early = runtime.spawn(secret_of(source.clone()));
    assert_eq!(has_entered.recv_timeout(secs(30)).unwrap(), 1);
    source.rotate();
    let late = runtime.spawn(secret_of(source.clone()));
    release_old.send(()).unwrap();
    let seen = [0, 2].map(|_| has_entered.recv_timeout(secs(30)).unwrap());
    assert_eq!(seen, [0, 2], "the next fetch starts after both rotations");
    for waiter in [early, late] {
        assert_eq!(runtime.block_on(waiter).unwrap(), "fetch-2");
    }
    assert_eq!(source.stats().fetches_discarded, 1);
}

// R50
#[tokio::test(start_paused = true)]
async fn a_rotation_affects_every_key_and_an_invalidation_only_its_own() {
    let (issuer, clock) = (Issuer::for_users(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let keys: Vec<_> = (1..=100).map(ExtensionKey).collect();
    for key in &keys {
        source.token_for(key).now_or_never();
    }
    sleep(secs(1)).await;
    source.invalidate_for(&keys[0]);
    assert!(source.peek_for(&keys[0]).is_none());
    assert!(keys[1..].iter().all(|key| source.peek_for(key).is_some()));
    issuer.set_credential("second");
    source.rotate();
    assert!(keys.iter().all(|key| source.peek_for(key).is_none()));
    for key in &keys {
        let token = source.token_for(key).await.unwrap();
        assert!(token.expose_secret().starts_with(&format!("second.{}.", key.0)));
    }
    assert_eq!(issuer.requests(), 200);
    assert_reconciles(&source);
}

// R50
#[tokio::test(start_paused = true)]
async fn after_a_rotation_during_a_replay_the_replay_uses_the_new_secret() {
    let (issuer, api) = (Issuer::new(), Api::new(1));
    let source = TokenSource::new(issuer.clone());
    let client = layer(&source).layer(api.clone());
    client.clone().oneshot(get()).await.unwrap();
    api.revoke("first.1");
    let replaying = tokio::spawn(client.clone().oneshot(get()));
    sleep(ms(100)).await;
    assert_eq!(issuer.running(), 1);
    issuer.set_credential("second");
    source.rotate();
    assert_eq!(replaying.await.unwrap().unwrap().status(), 200);
    assert_eq!(api.authorizations(), ["Bearer first.1", "Bearer first.1", "Bearer second.3"]);
    assert_reconciles(&source);
}

// R50
#[tokio::test(start_paused = true)]
async fn after_a_rotation_a_rejected_token_does_not_come_back() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let old = source.token().await.unwrap();
    source.accept(&old);
    assert!(source.reject(&(), &old));
    settle().await;
    issuer.script_always(Outcome::Fail(unavailable()));
    source.rotate();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(source.peek().is_none(), "the old token is back");
}

// R50
#[tokio::test(start_paused = true)]
async fn a_late_rejection_is_replayed_when_a_rotation_that_is_due_ends_the_backoff() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let old = source.token().await.unwrap();
    issuer.script(Outcome::Fail(Error::permanent("wrong secret").with_kind(ErrorKind::InvalidCredentials)));
    source.rotate();
    source.token().await.unwrap_err();
    source.rotate();
    assert!(!source.reject(&(), &old), "the backoff of a permanent failure has ended");
    sleep(secs(1)).await;
    assert!(source.reject(&(), &old), "the rotation has not ended the backoff");
    assert_eq!(source.token().await.unwrap().expose_secret(), "first.3");
    assert_reconciles(&source);
}

/// A file that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let scratch = Self(std::env::temp_dir().join(format!("tower-bearer-auth-{name}-{}", std::process::id())));
        scratch.write(content);
        scratch
    }

    fn write(&self, content: &str) {
        fs::write(&self.0, content).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A source whose tokens are `secret`, which its provider loads in every fetch.
fn source_of(secret: &Secret) -> TokenSource<impl TokenProvider<Key = ()>> {
    let secret = secret.clone();
    TokenSource::new(from_fn(move || {
        let secret = secret.clone();
        async move {
            let secret = secret.load().await?;
            Ok(IssuedToken::bearer(secret.expose_secret())?.expires_in(secs(1800)))
        }
    }))
}

// R50
#[tokio::test]
async fn a_secret_file_is_read_in_every_fetch_and_a_failed_read_keeps_the_old_secret() {
    let file = Scratch::new("reread", "secret-1\n");
    let secret = Secret::from_file(&file.0).unwrap();
    let source = source_of(&secret);
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-1");

    file.write("secret-2\r\n");
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-1", "no fetch has read it yet");
    source.rotate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-2");
    assert!(secret.last_error().is_none());

    for (content, reason) in [("", "empty"), ("\n", "empty")] {
        file.write(content);
        source.rotate();
        assert_eq!(source.token().await.unwrap().expose_secret(), "secret-2");
        let error = secret.last_error().unwrap();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains("tower-bearer-auth-reread"), "{error}");
        assert!(!format!("{error:?} {secret:?}").contains("secret-2"));
    }
    fs::write(&file.0, [0xff, 0xfe]).unwrap();
    source.rotate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-2");
    assert!(secret.last_error().unwrap().to_string().contains("UTF-8"));
    fs::remove_file(&file.0).unwrap();
    source.rotate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-2");
    assert!(secret.last_error().is_some());

    file.write("secret-3");
    source.rotate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-3");
    assert!(secret.last_error().is_none());
}

/// The number of threads of this process that read secret files.
#[cfg(target_os = "linux")]
fn readers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "file-reader").count()
}

// R50: a dead mount, or a FIFO without a writer.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_secret_file_that_hangs_costs_two_seconds_and_one_thread_and_keeps_the_old_secret() {
    let file = Scratch::new("hangs", "secret-1");
    let secret = Secret::from_file(&file.0).unwrap();
    let source = source_of(&secret);
    fs::remove_file(&file.0).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file.0).status().unwrap().success());
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-1");
    assert!(secret.last_error().unwrap().to_string().contains("2 seconds"));
    for loaded in join_all((0..8).map(|_| secret.load())).await {
        assert_eq!(loaded.unwrap().expose_secret(), "secret-1");
    }
    // The readers of other tests end soon; those that hang would stay.
    eventually("one reader is left, which hangs", || readers() <= 1).await;

    // The mount comes back: the reader ends, and the next one reads the new content.
    let aside = Scratch(file.0.with_extension("aside"));
    fs::rename(&file.0, &aside.0).unwrap();
    file.write("secret-2");
    drop(fs::OpenOptions::new().write(true).open(&aside.0).unwrap());
    eventually("no reader is left", || readers() == 0).await;
    assert_eq!(secret.load().await.unwrap().expose_secret(), "secret-2");
    assert!(secret.last_error().is_none());
}

// R50: without a runtime the file is read on the calling thread.
#[test]
fn a_secret_file_is_read_outside_of_a_runtime_too() {
    let file = Scratch::new("outside", "secret-1");
    let secret = Secret::from_file(&file.0).unwrap();
    file.write("secret-2");
    assert_eq!(secret.load().now_or_never().unwrap().unwrap().expose_secret(), "secret-2");
}

// R50
#[tokio::test]
async fn the_function_of_a_secret_is_called_in_every_fetch() {
    let value = Arc::new(Mutex::new(Ok("secret-1")));
    let current = Arc::clone(&value);
    let secret = Secret::from_fn(move || match &*current.lock().unwrap() {
        Ok(value) => Ok((*value).into()),
        Err(()) => Err(Error::transient("the vault is sealed")),
    });
    let source = source_of(&secret);
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-1");
    *value.lock().unwrap() = Ok("secret-2");
    source.rotate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "secret-2");
    *value.lock().unwrap() = Err(());
    source.rotate();
    assert!(source.token().await.unwrap_err().is_transient());
    assert!(!format!("{secret:?} {source:?}").contains("secret-"));
}

// R45
#[tokio::test(start_paused = true)]
async fn at_ten_thousand_requests_a_second_none_waits_across_a_hundred_refreshes() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_lifetime(secs(4));
    issuer.set_latency(ms(500));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.warm_up().await.unwrap();
    let mut ticks = interval(ms(1));
    let (mut requests, mut generations) = (0_u64, std::collections::BTreeSet::new());
    while issuer.requests() <= 101 {
        ticks.tick().await;
        for _ in 0..10 {
            let token = source.token().now_or_never().expect("a request waited for the network");
            generations.insert(token.unwrap().generation());
            requests += 1;
        }
    }
    assert!(requests >= 2_000_000, "{requests}");
    assert!(generations.len() >= 100, "{} refreshes", generations.len());
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waits, stats.hits), (1, requests));
    // R52: each token is used at least until its window starts.
    assert_eq!(issuer.most_at_once(), 1);
    assert!(issuer.started().windows(2).all(|two| two[1] - two[0] >= secs(2)));
}

// R45
#[tokio::test(start_paused = true)]
async fn through_the_layer_no_request_waits_across_refreshes_either() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_lifetime(secs(4));
    issuer.set_latency(ms(500));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let client = layer(&source).layer(Api::new(0));
    client.clone().oneshot(get()).await.unwrap();
    let mut ticks = interval(ms(10));
    while issuer.requests() <= 101 {
        ticks.tick().await;
        client.clone().oneshot(get()).now_or_never().expect("a request waited for the network").unwrap();
    }
    assert_eq!(assert_reconciles(&source).waits, 1);
}

// R4: a generation is unique in one source only, so two sources may have the same one.
#[tokio::test(start_paused = true)]
async fn a_token_of_another_source_is_neither_accepted_nor_rejected() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (source, others) = (TokenSource::new(issuer.clone()), TokenSource::new(other.clone()));
    let (ours, foreign) = (source.token().await.unwrap(), others.token().await.unwrap());
    assert_eq!(ours.generation(), foreign.generation());
    for _ in 0..5 {
        assert!(source.reject(&(), &foreign), "there is a usable token");
        source.accept(&foreign);
    }
    settle().await;
    assert_eq!(source.token().await.unwrap().generation(), ours.generation());
    assert_eq!((issuer.requests(), source.stats().rejections), (1, 0));
    // No server has accepted it, so its rejection is that of an unaccepted token.
    assert!(others.reject(&(), &foreign));
    settle().await;
    assert_eq!((others.stats().rejections, others.stats().rejections_of_unaccepted), (1, 1));
    // The budget is full, and a rejection of the current token counts.
    assert!(source.reject(&(), &ours));
    assert_ne!(source.token().await.unwrap().generation(), ours.generation());
    assert_eq!((issuer.requests(), source.stats().rejections), (2, 1));
}
