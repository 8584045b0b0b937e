//! What a server does to its clients, on one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tower_bearer_auth::shared::{Claim, Outcome, StoreError, TokenStore};
use tower_bearer_auth::{Secret, SecretValue};
use tower_bearer_auth_redis::RedisStore;

use crate::server::Server;

pub(crate) const NAME: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF-";
const TTL: Duration = Duration::from_secs(60);
const A: [u8; 16] = [1; 16];
const B: [u8; 16] = [2; 16];
const VERSION: [u8; 16] = [3; 16];
/// What `Shared` allows for a call.
const LIMIT: Duration = Duration::from_millis(500);

fn token(bytes: &[u8]) -> Outcome<'_> {
    Outcome::Token { version: VERSION, bytes, keep: TTL }
}

async fn claim(store: &RedisStore, owner: [u8; 16]) -> Result<Claim, StoreError> {
    store.claim(NAME, &owner, TTL, None).await
}

async fn publish(store: &RedisStore, owner: [u8; 16]) -> bool {
    store.publish(NAME, &owner, token(b"token")).await.unwrap()
}

fn key(kind: &str) -> String {
    format!("tba:{{{NAME}}}:{kind}")
}

// R89, R90: an operator or another program writes something else in the place of a record.
pub(crate) async fn invalid_records_count_as_missing() {
    let server = Server::start(&[]);
    let store = server.store();
    for kind in ["t", "n", "l"] {
        let key = key(kind);
        for invalid in [&["SET", &key, "short"][..], &["SET", &key, ""], &["RPUSH", &key, "a list"]] {
            let () = server.command(invalid).await;
            assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease, "{invalid:?}");
            assert!(publish(&store, A).await, "{invalid:?}");
            assert!(matches!(claim(&store, B).await.unwrap(), Claim::Token(_)), "{invalid:?}");
            let () = server.command(&["FLUSHALL"]).await;
        }
    }
    // A lease without an expiry would never end.
    let () = server.command(&["SET", &key("l"), "0123456789abcdef"]).await;
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
    assert!(publish(&store, A).await);
    let persisted: i64 = server.command(&["PERSIST", &key("t")]).await;
    assert_eq!(persisted, 1);
    match claim(&store, B).await.unwrap() {
        Claim::Token(stored) => assert_eq!(stored.left, Duration::MAX, "a record without an expiry is invalid"),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn times_that_redis_cannot_keep_are_limited() {
    let server = Server::start(&[]);
    let store = server.store();
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease, "{time:?}");
        let outcome = Outcome::Note { version: VERSION, bytes: b"", keep: time };
        assert!(store.publish(NAME, &A, outcome).await.unwrap(), "{time:?}");
        assert_eq!(store.claim(NAME, &A, time, Some(VERSION)).await.unwrap(), Claim::Lease, "{time:?}");
        let () = server.command(&["FLUSHALL"]).await;
    }
}

// R89: `Shared` drops a call after 500 ms, and when its fetch is cancelled.
pub(crate) async fn calls_that_are_dropped_mix_up_no_responses() {
    let server = Server::start(&[]);
    let store = server.store();
    for round in 0..200_u32 {
        let name = format!("{round:043}");
        let mut dropped = Box::pin(store.claim(&name, &A, TTL, None));
        // After one poll the command may be sent, and its response is still to come.
        let polled = futures_util::FutureExt::now_or_never(dropped.as_mut());
        drop((polled, dropped));
        let bytes = round.to_be_bytes();
        let other = format!("{round:042}-");
        assert_eq!(store.claim(&other, &B, TTL, None).await.unwrap(), Claim::Lease);
        assert!(store.publish(&other, &B, token(&bytes)).await.unwrap());
        match store.claim(&other, &A, TTL, None).await.unwrap() {
            Claim::Token(stored) => assert_eq!(stored.bytes, bytes),
            claim => panic!("{claim:?}"),
        }
    }
}

// R89: the first fetches of a process start together.
pub(crate) async fn first_calls_share_one_connection() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    let before = server.connections(&mut admin).await;
    let store = server.store();
    assert_eq!(server.connections(&mut admin).await, before, "the store connects in its first call");
    let claims = join_all((0..100).map(|_| claim(&store, A))).await;
    assert!(claims.into_iter().all(|claim| claim.unwrap() == Claim::Lease));
    assert_eq!(server.connections(&mut admin).await, before + 1);
}

// R86, R88
pub(crate) async fn claims_of_many_processes_give_one_lease() {
    let server = Server::start(&[]);
    for round in 0..20 {
        let name = format!("{round:043}");
        let stores: Vec<RedisStore> = (0..32).map(|_| server.store()).collect();
        let owners: Vec<[u8; 16]> = (0..32).map(|owner| [owner; 16]).collect();
        let claims = stores.iter().zip(&owners).map(|(store, owner)| store.claim(&name, owner, TTL, None));
        let claims = join_all(claims).await;
        let leases = claims.into_iter().filter(|claim| matches!(claim, Ok(Claim::Lease))).count();
        assert_eq!(leases, 1);
    }
}

// R89: a proxy, a timeout of the server or an operator closes connections.
pub(crate) async fn a_closed_connection_fails_no_call() {
    let server = Server::start(&[]);
    let store = server.store();
    let mut admin = server.admin().await;
    for _ in 0..5 {
        assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
        let _: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut admin)
            .await
            .unwrap();
    }
    let before = server.connections(&mut admin).await;
    let claims = join_all((0..50).map(|_| claim(&store, A))).await;
    assert!(claims.into_iter().all(|claim| claim.unwrap() == Claim::Lease));
    assert_eq!(server.connections(&mut admin).await, before + 1);
}

// R89: without the retry, the first fetch of each process would go on alone after a restart.
pub(crate) async fn a_server_that_restarts_empty_fails_no_call() {
    let mut server = Server::start(&[]);
    let store = server.store();
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
    server.kill();
    server.restart();
    assert!(!publish(&store, A).await, "the lease is gone");
    assert_eq!(claim(&store, B).await.unwrap(), Claim::Lease);
    server.kill();
    // Nothing listens: the call fails at once, and the next one connects.
    let error = tokio::time::timeout(LIMIT, claim(&store, A)).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the connection to Redis failed");
    server.restart();
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
}

// R89: a call without a response may be carried out later.
pub(crate) async fn a_stopped_server_keeps_its_connection_and_carries_out_the_claim() {
    let server = Server::start(&[]);
    let store = server.store();
    let mut admin = server.admin().await;
    store.publish(NAME, &A, Outcome::Nothing).await.unwrap();
    let before = server.connections(&mut admin).await;
    server.freeze();
    let calls = join_all((0..20).map(|_| tokio::time::timeout(LIMIT, claim(&store, A)))).await;
    assert!(calls.into_iter().all(|call| call.is_err()));
    server.resume();
    match claim(&store, B).await.unwrap() {
        Claim::Wait(left) => assert!(left <= TTL),
        claim => panic!("the claim of the stopped time was not carried out: {claim:?}"),
    }
    assert!(store.publish(NAME, &A, Outcome::Nothing).await.unwrap());
    assert_eq!(claim(&store, B).await.unwrap(), Claim::Lease);
    assert_eq!(server.connections(&mut admin).await, before);
}

// R89: after a failover, the name of the primary leads to another server.
pub(crate) async fn a_server_that_becomes_a_replica_is_left() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let primary = Arc::new(AtomicU16::new(old.port));
    let port = Arc::clone(&primary);
    let url =
        Secret::from_fn(move || Ok(SecretValue::from(format!("redis://127.0.0.1:{}", port.load(Ordering::SeqCst)))));
    let store = RedisStore::builder(url).build().unwrap();
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
    let () = old.command(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]).await;
    primary.store(new.port, Ordering::SeqCst);
    // What needs no write is still read from the replica.
    assert!(matches!(claim(&store, B).await.unwrap(), Claim::Wait(_)));
    let mut admin = new.admin().await;
    let before = new.connections(&mut admin).await;
    let claims = join_all((0..50).map(|_| claim(&store, A))).await;
    assert!(claims.into_iter().all(|claim| claim.unwrap() == Claim::Lease));
    assert_eq!(new.connections(&mut admin).await, before + 1, "one call connects for all");
    assert_eq!(new.keys().await, [key("l")]);
    // There is no other primary: the call fails, and does not connect forever.
    primary.store(old.port, Ordering::SeqCst);
    let () = new.command(&["REPLICAOF", "127.0.0.1", &old.port.to_string()]).await;
    assert_eq!(claim(&store, A).await.unwrap_err().to_string(), "Redis: READONLY");
    let () = old.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert!(claim(&store, B).await.is_ok());
}

// R89: a store in a static, and tests with a runtime each.
pub(crate) async fn the_end_of_the_runtime_fails_no_call() {
    let server = Server::start(&[]);
    // It needs no runtime.
    let url = server.url();
    let store = std::thread::spawn(move || RedisStore::builder(url).build().unwrap()).join().unwrap();
    survives_runtimes(store).await;
}

/// Calls from runtimes that end.
pub(crate) async fn survives_runtimes(store: RedisStore) {
    for _ in 0..3 {
        let store = store.clone();
        let in_runtime = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(claim(&store, A))
        };
        assert_eq!(tokio::task::spawn_blocking(in_runtime).await.unwrap().unwrap(), Claim::Lease);
    }
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
}

// R89
pub(crate) async fn a_full_server_fails_claims_and_still_returns_tokens() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = server.store();
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
    assert!(publish(&store, A).await);
    assert_eq!(store.claim(NAME, &A, TTL, Some(VERSION)).await.unwrap(), Claim::Lease);
    let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(matches!(claim(&store, B).await.unwrap(), Claim::Token(_)));
    let error = store.claim(NAME, &A, TTL, Some(VERSION)).await.unwrap_err();
    assert_eq!(error.to_string(), "Redis: OOM");
    // The holder fetched when there was still memory. Nobody waits for its lease.
    let _ = store.publish(NAME, &A, token(b"second")).await;
    let () = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(!matches!(store.claim(NAME, &B, TTL, Some(VERSION)).await.unwrap(), Claim::Wait(_)));
}

// R89: an evicted record costs one token request.
pub(crate) async fn an_evicted_token_is_missing() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-random"]);
    let store = server.store();
    assert_eq!(claim(&store, A).await.unwrap(), Claim::Lease);
    assert!(publish(&store, A).await);
    let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    // With each command, the server evicts what it can.
    while !server.keys().await.is_empty() {
        let _: Result<(), redis::RedisError> =
            redis::cmd("SET").arg(&["x", "y"]).query_async(&mut server.admin().await).await;
        let _: i64 = server.command(&["DEL", "x"]).await;
    }
    let () = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(claim(&store, B).await.unwrap(), Claim::Lease);
}
