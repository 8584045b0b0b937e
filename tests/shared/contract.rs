//! The contract of a store, and stores that break it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tower_bearer_auth::shared::{Claim, MemoryStore, Outcome, StoreError, Stored, TokenStore, contract};

use crate::support::time::{ms, secs};

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_keeps_the_contract() {
    contract::run(&MemoryStore::new()).await.unwrap();
    contract::run(&Arc::new(MemoryStore::new())).await.unwrap();
    contract::run(&MemoryStore::with_clock(tower_bearer_auth::SystemClock)).await.unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    SeenIsIgnored,
    SeenNoteHidesNoToken,
    NotesFirst,
    EveryoneGetsTheLease,
    TheOwnerWaits,
    LeasesNeverEnd,
    LeasesAreNotRenewed,
    AnyonePublishes,
    PublishingKeepsTheLease,
    ANoteReplacesTheToken,
    ATokenKeepsTheNote,
    NamesAreIgnored,
    BytesAreText,
    RecordsNeverEnd,
    LeftIsTheWholeLife,
    LeftIsZero,
    LeftIsRoundedUp,
    LeftIsRoundedToTheNearest,
    WaitIsZero,
    WaitIsLonger,
    ClaimsAreTwoSteps,
    TheVersionIsCounted,
    ItFails,
}

/// A store in memory with a bug.
struct Buggy(MemoryStore, Bug);

impl TokenStore for Buggy {
    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        let Self(store, bug) = self;
        let name = if *bug == Bug::NamesAreIgnored { "one" } else { name };
        match bug {
            Bug::SeenIsIgnored => store.claim(name, owner, ttl, None).await,
            Bug::NotesFirst => match store.claim(name, owner, ttl, seen).await? {
                Claim::Token(token) => match store.claim(name, owner, ttl, Some(token.version)).await? {
                    Claim::Note(note) => Ok(Claim::Note(note)),
                    Claim::Lease => {
                        store.publish(name, owner, Outcome::Nothing).await?;
                        Ok(Claim::Token(token))
                    }
                    _ => Ok(Claim::Token(token)),
                },
                other => Ok(other),
            },
            Bug::SeenNoteHidesNoToken => match store.claim(name, owner, ttl, seen).await? {
                Claim::Lease if seen.is_some() => {
                    store.publish(name, owner, Outcome::Nothing).await?;
                    match store.claim(name, owner, ttl, None).await? {
                        Claim::Token(token) if Some(token.version) != seen => Ok(Claim::Token(token)),
                        Claim::Lease => Ok(Claim::Lease),
                        _ => store.claim(name, owner, ttl, seen).await,
                    }
                }
                other => Ok(other),
            },
            Bug::EveryoneGetsTheLease => match store.claim(name, owner, ttl, seen).await? {
                Claim::Wait(_) => Ok(Claim::Lease),
                other => Ok(other),
            },
            Bug::TheOwnerWaits => {
                let before = store.claim(name, &[0; 16], ttl, seen).await?;
                match before {
                    Claim::Lease => {
                        store.publish(name, &[0; 16], Outcome::Nothing).await?;
                        store.claim(name, owner, ttl, seen).await
                    }
                    other => Ok(other),
                }
            }
            Bug::LeasesNeverEnd => store.claim(name, owner, secs(60), seen).await,
            Bug::LeasesAreNotRenewed => match store.claim(name, &[0; 16], ttl, seen).await? {
                Claim::Lease => {
                    store.publish(name, &[0; 16], Outcome::Nothing).await?;
                    store.claim(name, owner, ttl, seen).await
                }
                Claim::Wait(left) => match store.claim(name, owner, left, seen).await? {
                    Claim::Wait(left) => Ok(Claim::Wait(left)),
                    other => Ok(other),
                },
                other => Ok(other),
            },
            Bug::BytesAreText => match store.claim(name, owner, ttl, seen).await? {
                Claim::Token(stored) => {
                    let bytes = String::from_utf8_lossy(&stored.bytes).into_owned().into_bytes();
                    Ok(Claim::Token(Stored { bytes, ..stored }))
                }
                other => Ok(other),
            },
            Bug::LeftIsTheWholeLife => Ok(with_left(store.claim(name, owner, ttl, seen).await?, secs(3600))),
            Bug::LeftIsZero => Ok(with_left(store.claim(name, owner, ttl, seen).await?, Duration::ZERO)),
            Bug::LeftIsRoundedUp | Bug::LeftIsRoundedToTheNearest => {
                let claim = store.claim(name, owner, ttl, seen).await?;
                let left = match &claim {
                    Claim::Token(stored) => stored.left,
                    _ => Duration::ZERO,
                };
                let part = if *bug == Bug::LeftIsRoundedUp { Duration::from_nanos(999_999_999) } else { ms(500) };
                Ok(with_left(claim, secs((left + part).as_secs())))
            }
            Bug::WaitIsZero | Bug::WaitIsLonger => match store.claim(name, owner, ttl, seen).await? {
                Claim::Wait(left) => Ok(Claim::Wait(if *bug == Bug::WaitIsZero { ms(0) } else { left + secs(60) })),
                other => Ok(other),
            },
            Bug::ClaimsAreTwoSteps => match store.claim(name, owner, ttl, seen).await? {
                // It has read that there is no token, and takes the lease in a step of its own.
                Claim::Wait(_) => {
                    tokio::task::yield_now().await;
                    match store.claim(name, owner, ttl, seen).await? {
                        Claim::Token(token) => store.claim(name, owner, ttl, Some(token.version)).await,
                        other => Ok(other),
                    }
                }
                other => Ok(other),
            },
            Bug::TheVersionIsCounted => match store.claim(name, owner, ttl, seen).await? {
                Claim::Token(stored) => Ok(Claim::Token(Stored { version: [1; 16], ..stored })),
                other => Ok(other),
            },
            Bug::ItFails => Err(StoreError::new("down")),
            _ => store.claim(name, owner, ttl, seen).await,
        }
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        let Self(store, bug) = self;
        let name = if *bug == Bug::NamesAreIgnored { "one" } else { name };
        match (bug, outcome) {
            (Bug::AnyonePublishes, _) => {
                store.publish(name, owner, outcome).await?;
                Ok(true)
            }
            (Bug::PublishingKeepsTheLease, _) => {
                let held = store.publish(name, owner, outcome).await?;
                if held {
                    let seen = match outcome {
                        Outcome::Token { version, .. } | Outcome::Note { version, .. } => Some(version),
                        Outcome::Nothing => None,
                    };
                    store.claim(name, owner, secs(60), seen).await?;
                }
                Ok(held)
            }
            (Bug::ANoteReplacesTheToken, Outcome::Note { version, bytes, keep }) => {
                let held = store.publish(name, owner, Outcome::Token { version, bytes, keep }).await?;
                store.claim(name, owner, secs(1), Some(version)).await?;
                store.publish(name, owner, Outcome::Note { version, bytes, keep }).await?;
                Ok(held)
            }
            (Bug::ATokenKeepsTheNote, Outcome::Token { version, .. }) => {
                let note = match store.claim(name, owner, secs(60), None).await? {
                    Claim::Note(note) => Some(note),
                    _ => None,
                };
                let held = store.publish(name, owner, outcome).await?;
                if let (true, Some(note)) = (held, note) {
                    store.claim(name, owner, secs(1), Some(version)).await?;
                    let again = Outcome::Note { version: note.version, bytes: &note.bytes, keep: note.left };
                    store.publish(name, owner, again).await?;
                }
                Ok(held)
            }
            (Bug::RecordsNeverEnd, Outcome::Token { version, bytes, keep }) => {
                store.publish(name, owner, Outcome::Token { version, bytes, keep: keep.max(secs(59)) }).await
            }
            _ => store.publish(name, owner, outcome).await,
        }
    }
}

fn with_left(claim: Claim, left: Duration) -> Claim {
    match claim {
        Claim::Token(stored) => Claim::Token(Stored { left, ..stored }),
        other => other,
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_the_contract_is_found() {
    let bugs = [
        Bug::SeenIsIgnored,
        Bug::SeenNoteHidesNoToken,
        Bug::NotesFirst,
        Bug::EveryoneGetsTheLease,
        Bug::TheOwnerWaits,
        Bug::LeasesNeverEnd,
        Bug::LeasesAreNotRenewed,
        Bug::AnyonePublishes,
        Bug::PublishingKeepsTheLease,
        Bug::ANoteReplacesTheToken,
        Bug::ATokenKeepsTheNote,
        Bug::NamesAreIgnored,
        Bug::BytesAreText,
        Bug::RecordsNeverEnd,
        Bug::LeftIsTheWholeLife,
        Bug::LeftIsZero,
        Bug::LeftIsRoundedUp,
        Bug::LeftIsRoundedToTheNearest,
        Bug::WaitIsZero,
        Bug::WaitIsLonger,
        Bug::ClaimsAreTwoSteps,
        Bug::TheVersionIsCounted,
        Bug::ItFails,
    ];
    let mut missed = Vec::new();
    for bug in bugs {
        match contract::run(&Buggy(MemoryStore::new(), bug)).await {
            Ok(()) => missed.push(bug),
            Err(error) => println!("{bug:?}: {error}"),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// A store in memory whose calls take a while, and whose leases and records lose a part of their life.
#[derive(Default)]
struct Remote {
    store: MemoryStore,
    latency: Duration,
    lost: Duration,
    names: Mutex<BTreeSet<String>>,
}

impl TokenStore for Remote {
    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        self.names.lock().insert(name.to_owned());
        tokio::time::sleep(self.latency).await;
        self.store.claim(name, owner, ttl - self.lost, seen).await
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        tokio::time::sleep(self.latency).await;
        let outcome = match outcome {
            Outcome::Token { version, bytes, keep } => Outcome::Token { version, bytes, keep: keep - self.lost },
            Outcome::Note { version, bytes, keep } => Outcome::Note { version, bytes, keep: keep - self.lost },
            Outcome::Nothing => Outcome::Nothing,
        };
        self.store.publish(name, owner, outcome).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_remote_store_can_keep_the_contract() {
    for latency in [100, 150, 300] {
        contract::run(&Remote { latency: ms(latency), ..Remote::default() }).await.unwrap();
    }
}

// etcd counts whole seconds.
#[tokio::test(start_paused = true)]
async fn a_store_that_rounds_lives_down_by_a_second_can_keep_the_contract() {
    contract::run(&Remote { latency: ms(30), lost: ms(950), ..Remote::default() }).await.unwrap();
}

// A database may order or limit the letters of names.
#[tokio::test(start_paused = true)]
async fn the_contract_uses_names_like_those_of_records() {
    let store = Remote::default();
    contract::run(&store).await.unwrap();
    let names = store.names.lock();
    assert!(names.iter().all(|name| name.len() == 43));
    let letters: BTreeSet<char> = names.iter().flat_map(|name| name.chars()).collect();
    assert!(letters.iter().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')), "{letters:?}");
    assert!(letters.len() > 50, "{letters:?}");
}
