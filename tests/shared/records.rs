//! R93: records that are sealed, moved, changed, or sealed with another key.

use std::time::Duration;

use tower_bearer_auth::shared::{MemoryStore, SealingKey, Shared};
use tower_bearer_auth::{Error, ErrorKind};

use crate::world::{Client, KEY, OTHER_KEY, Outcome, Settings, World, key, secs, unavailable};

// R93
#[test]
fn without_a_key_there_is_no_shared_provider() {
    let world = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    world().block_on(async {
        let world = World::new();
        let error = Shared::builder(Client::new(&world.issuer), MemoryStore::new()).build().unwrap_err();
        assert_eq!(error.setting(), "sealing_key");
        assert!(error.to_string().contains("never written to a store in clear text"), "{error}");
    });
}

// R93
#[test]
fn a_key_that_is_no_key_is_an_error_that_does_not_print_it() {
    let digits = "0123456789abcdef".repeat(4);
    assert!(SealingKey::from_hex(&digits).is_ok());
    assert!(SealingKey::from_hex(digits.to_uppercase()).is_ok());
    let wrong = [
        "",
        "CANARY",
        &digits[1..],
        &format!("{digits}0"),
        &format!("CANARY{}", &digits[6..]),
        &format!(" {}", &digits[1..]),
        &"0".repeat(64),
        &"f".repeat(64),
        &"é".repeat(32),
    ];
    for text in wrong {
        let error = SealingKey::from_hex(text).unwrap_err();
        assert_eq!(error.setting(), "sealing_key", "{text}");
        assert!(error.hint().unwrap().contains("openssl rand -hex 32"));
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
    assert_eq!(format!("{:?}", key(KEY)), "SealingKey(..)");
}

// R93: aspnetcore #13476
#[tokio::test(start_paused = true)]
async fn a_record_of_another_key_is_a_miss_and_is_counted() {
    let world = World::new();
    world.process().token().await.unwrap();
    let other = world.process_with(Settings { key: OTHER_KEY, ..Settings::default() }, |builder| builder);
    assert_eq!(other.token().await.unwrap(), "first.2");
    let stats = other.stats();
    assert_eq!((stats.store_unopened, stats.store_hits, stats.store_misses), (1, 0, 1));
}

// R93
#[tokio::test(start_paused = true)]
async fn a_key_can_be_replaced_without_a_token_request() {
    let world = World::new();
    let old = world.process();
    old.token().await.unwrap();
    // First everyone accepts the new key, then everyone seals with it.
    let accepts = Settings { accepts: Some(OTHER_KEY), ..Settings::default() };
    assert_eq!(world.process_with(accepts, |builder| builder).token().await.unwrap(), "first.1");
    let seals = || Settings { key: OTHER_KEY, accepts: Some(KEY), ..Settings::default() };
    let new = world.process_with(seals(), |builder| builder);
    assert_eq!(new.token().await.unwrap(), "first.1");
    new.source.invalidate();
    assert_eq!(new.token().await.unwrap(), "first.2");
    let accepts = Settings { accepts: Some(OTHER_KEY), ..Settings::default() };
    assert_eq!(world.process_with(accepts, |builder| builder).token().await.unwrap(), "first.2");
    assert_eq!(world.requests(), 2);
}

// R93
#[tokio::test(start_paused = true)]
async fn a_record_that_was_changed_or_moved_does_not_open() {
    let world = World::new();
    let one = world.process();
    one.token().await.unwrap();
    let other = world.process_with(Settings { namespace: "other", ..Settings::default() }, |builder| builder);
    other.token().await.unwrap();
    let (record, elsewhere) = (world.server.tokens()[0].clone(), world.server.tokens()[1].clone());
    assert_ne!(record.name, elsewhere.name);
    let mut changed = Vec::new();
    // Format, lifetime, nonce, ciphertext and tag.
    for at in [0, 1, 8, 9, 32, 33, 40, record.bytes.len() - 1] {
        let mut other = record.clone();
        other.bytes[at] ^= 1;
        changed.push(other);
    }
    for length in [0, 1, 9, 33, 49, record.bytes.len() - 1] {
        let mut other = record.clone();
        other.bytes.truncate(length);
        changed.push(other);
    }
    let (mut longer, mut version, mut name, mut kind) =
        (record.clone(), record.clone(), record.clone(), record.clone());
    longer.bytes.push(0);
    version.version[0] ^= 1;
    name.bytes.clone_from(&elsewhere.bytes);
    name.version = elsewhere.version;
    kind.is_token = false;
    changed.extend([longer, version, name, kind]);
    for wrong in changed {
        world.server.lose_everything();
        world.server.put(&wrong).await;
        let process = world.process();
        let requests = world.requests();
        process.token().await.unwrap();
        assert_eq!((world.requests(), process.stats().store_unopened), (requests + 1, 1), "{wrong:?}");
    }
    // The record itself does open.
    world.server.lose_everything();
    world.server.put(&record).await;
    assert_eq!(world.process().token().await.unwrap(), "first.1");
}

// R93
#[tokio::test(start_paused = true)]
async fn every_record_has_a_nonce_and_a_version_of_its_own_and_failures_are_sealed_too() {
    let world = World::new();
    let process = world.process();
    for _ in 0..3 {
        process.source.invalidate();
        process.token().await.unwrap();
        tokio::time::sleep(secs(2)).await;
    }
    world.issuer.script(Outcome::Fail(unavailable()));
    process.source.invalidate();
    let error = tower_bearer_auth::TokenSource::token(&process.source).await;
    assert!(error.is_ok(), "patience: the next token request succeeds");
    let records = world.server.published();
    assert!(records.iter().any(|record| !record.is_token));
    for (at, record) in records.iter().enumerate() {
        for other in &records[..at] {
            assert_ne!(record.version, other.version);
            assert_ne!(record.bytes[9..33], other.bytes[9..33], "nonces");
        }
        let text = String::from_utf8_lossy(&record.bytes).into_owned();
        assert!(!text.contains("first") && !text.contains("503") && !text.contains("unavailable"), "{text}");
        assert!(record.keep <= Duration::from_secs(1_800));
    }
}

// R93
#[tokio::test(start_paused = true)]
async fn a_note_is_not_read_as_a_token() {
    let world = World::new();
    // Read as a token, the text of this failure would be one.
    let failure = Error::new(ErrorKind::InvalidCredentials, "x".repeat(100)).with_hint("y".repeat(100));
    world.issuer.script(Outcome::Fail(failure));
    world.process().token().await.unwrap_err();
    let mut note = world.server.published()[0].clone();
    assert!(!note.is_token);
    note.is_token = true;
    note.keep = secs(60);
    world.server.lose_everything();
    world.server.put(&note).await;
    let process = world.process();
    assert_eq!(process.token().await.unwrap(), "first.2");
    assert_eq!(process.stats().store_unopened, 1);
}

// R90, R95
#[tokio::test(start_paused = true)]
async fn a_note_lasts_no_longer_than_it_was_sealed_for() {
    let world = World::new();
    world.issuer.script(Outcome::Fail(unavailable()));
    let settings = || Settings::default();
    let first = world.process_with(settings(), |builder| builder.patience(Duration::ZERO));
    first.token().await.unwrap_err();
    let mut note = world.server.published()[0].clone();
    note.keep = secs(86_400);
    world.server.put(&note).await;
    let second = world.process_with(settings(), |builder| builder.patience(Duration::ZERO));
    let left = second.token().await.unwrap_err().retry_after().unwrap();
    assert!(left <= Duration::from_millis(1_100), "{left:?}");
}
