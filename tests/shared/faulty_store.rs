//! A store in memory with faults. Each process has a handle of its own, so that a fault can affect one process or all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tower_bearer_auth::shared::{Claim, MemoryStore, Outcome, StoreError, TokenStore};

use crate::support::time::tokio_now;

/// What a handle does with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The call takes this long.
    Slow(Duration),
    /// The call is carried out at once, and the response takes this long.
    SlowResponse(Duration),
    Fails,
    Hangs,
    Panics,
    PanicsAtOnce,
    /// The call is carried out after this time, whether or not anyone still waits for it.
    Late(Duration),
    /// The call is carried out, and the response is lost.
    NoResponse,
    /// `publish` reports that it has stored something, and has not.
    LosesData,
}

/// A handle of one process.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    server: Server,
    fault: Arc<Mutex<Fault>>,
    publish_fault: Arc<Mutex<Option<Fault>>>,
    calls: Arc<Mutex<Vec<Instant>>>,
}

/// The store itself.
#[derive(Clone, Default)]
pub(crate) struct Server {
    memory: Arc<Mutex<MemoryStore>>,
    /// Whether the rest of a life is rounded down to whole seconds.
    rounds: Arc<Mutex<bool>>,
    /// Whether records have no expiry.
    persists: Arc<Mutex<bool>>,
    /// The records that were published, with the time of their last change.
    published: Arc<Mutex<Vec<Record>>>,
    /// Everything that the store was given, as text and bytes.
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    claims: Arc<Mutex<BTreeMap<String, usize>>>,
    /// The records that a writer puts back, the next one before each fetch reads the store.
    put_back: Arc<Mutex<VecDeque<Record>>>,
}

/// A record as it was published.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) is_token: bool,
    pub(crate) version: [u8; 16],
    pub(crate) bytes: Vec<u8>,
    pub(crate) keep: Duration,
}

const OPERATOR: [u8; 16] = *b"an operator here";

impl Server {
    pub(crate) fn handle(&self) -> FaultyStore {
        FaultyStore {
            server: self.clone(),
            fault: Arc::default(),
            publish_fault: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// The store restarts and has lost everything.
    pub(crate) fn lose_everything(&self) {
        *self.memory.lock() = MemoryStore::new();
    }

    pub(crate) fn round(&self) {
        *self.rounds.lock() = true;
    }

    pub(crate) fn persist(&self) {
        *self.persists.lock() = true;
    }

    pub(crate) fn published(&self) -> Vec<Record> {
        self.published.lock().clone()
    }

    /// The tokens that were published.
    pub(crate) fn tokens(&self) -> Vec<Record> {
        self.published().into_iter().filter(|record| record.is_token).collect()
    }

    /// A writer puts these records back in turn, one before each fetch reads the store.
    pub(crate) fn put_back(&self, records: Vec<Record>) {
        *self.put_back.lock() = records.into();
    }

    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.claims.lock().keys().cloned().collect()
    }

    /// Puts `record` into the store, in the place of what is there.
    pub(crate) async fn put(&self, record: &Record) {
        let Record { name, is_token, version, bytes, keep } = record;
        let memory = self.memory.lock().clone();
        let mut seen = None;
        for _ in 0..4 {
            match memory.claim(name, &OPERATOR, Duration::from_secs(1), seen).await.unwrap() {
                Claim::Lease => {
                    let (version, bytes, keep) = (*version, &bytes[..], *keep);
                    let outcome = match is_token {
                        true => Outcome::Token { version, bytes, keep },
                        false => Outcome::Note { version, bytes, keep },
                    };
                    assert!(memory.publish(name, &OPERATOR, outcome).await.unwrap());
                    return;
                }
                Claim::Token(stored) | Claim::Note(stored) => seen = Some(stored.version),
                Claim::Wait(left) => sleep(left).await,
            }
        }
        panic!("the record cannot be put");
    }

    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        self.received.lock().extend([name.as_bytes().to_vec(), owner.to_vec()]);
        *self.claims.lock().entry(name.to_owned()).or_default() += 1;
        if seen.is_none() {
            let next = {
                let mut records = self.put_back.lock();
                let next = records.pop_front();
                records.extend(next.clone());
                next
            };
            if let Some(record) = next {
                self.put(&record).await;
            }
        }
        let memory = self.memory.lock().clone();
        let mut claim = memory.claim(name, owner, ttl, seen).await?;
        if let Claim::Wait(left) = &mut claim
            && *self.rounds.lock()
        {
            *left = Duration::from_secs(left.as_secs());
        }
        if let Claim::Token(stored) | Claim::Note(stored) = &mut claim {
            if *self.rounds.lock() {
                stored.left = Duration::from_secs(stored.left.as_secs());
            }
            if *self.persists.lock() {
                stored.left = Duration::MAX;
            }
        }
        Ok(claim)
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        let memory = self.memory.lock().clone();
        let held = memory.publish(name, owner, outcome).await?;
        if let Outcome::Token { version, bytes, keep } | Outcome::Note { version, bytes, keep } = outcome {
            self.received.lock().extend([bytes.to_vec(), version.to_vec()]);
            if held {
                let is_token = matches!(outcome, Outcome::Token { .. });
                let record = Record { name: name.to_owned(), is_token, version, bytes: bytes.to_vec(), keep };
                self.published.lock().push(record);
            }
        }
        Ok(held)
    }
}

impl FaultyStore {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// The fault of `publish`, if it is another one.
    pub(crate) fn set_for_publish(&self, fault: Fault) {
        *self.publish_fault.lock() = Some(fault);
    }

    /// The number of calls of this process.
    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().len()
    }

    /// When this process made its calls.
    pub(crate) fn call_times(&self) -> Vec<Instant> {
        self.calls.lock().clone()
    }

    async fn with<T: Send + 'static>(
        &self,
        fault: Fault,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match fault {
            Fault::None | Fault::LosesData => call.await,
            Fault::Slow(time) => {
                sleep(time).await;
                call.await
            }
            Fault::SlowResponse(time) => {
                let result = call.await;
                sleep(time).await;
                result
            }
            Fault::Fails => Err(StoreError::new("connection refused")),
            Fault::Hangs => std::future::pending().await,
            Fault::Panics | Fault::PanicsAtOnce => panic!("a bug of the store"),
            Fault::Late(time) => {
                let late = tokio::spawn(async move {
                    sleep(time).await;
                    call.await
                });
                late.await.unwrap()
            }
            Fault::NoResponse => {
                call.await?;
                std::future::pending().await
            }
        }
    }
}

impl TokenStore for FaultyStore {
    fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send {
        self.calls.lock().push(tokio_now());
        let fault = *self.fault.lock();
        assert!(fault != Fault::PanicsAtOnce, "a bug of the store");
        let (server, name, owner) = (self.server.clone(), name.to_owned(), *owner);
        async move { self.with(fault, async move { server.claim(&name, &owner, ttl, seen).await }).await }
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        self.calls.lock().push(tokio_now());
        let fault = self.publish_fault.lock().unwrap_or(*self.fault.lock());
        if fault == Fault::LosesData {
            return Ok(true);
        }
        let (server, name, owner) = (self.server.clone(), name.to_owned(), *owner);
        let (kind, version, bytes, keep) = match outcome {
            Outcome::Token { version, bytes, keep } => (1, version, bytes.to_vec(), keep),
            Outcome::Note { version, bytes, keep } => (2, version, bytes.to_vec(), keep),
            Outcome::Nothing => (3, [0; 16], Vec::new(), Duration::ZERO),
        };
        let call = async move {
            let outcome = match kind {
                1 => Outcome::Token { version, bytes: &bytes, keep },
                2 => Outcome::Note { version, bytes: &bytes, keep },
                _ => Outcome::Nothing,
            };
            server.publish(&name, &owner, outcome).await
        };
        self.with(fault, call).await
    }
}
