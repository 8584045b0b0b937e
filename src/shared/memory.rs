//! A store in this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::store::{Claim, Outcome, StoreError, Stored, TokenStore};
use crate::clock::{AnyClock, Clock};

/// A [`TokenStore`] in memory: for tests, and for several sources in one process. A clone is the same store.
///
/// Expired records are removed in sweeps: none below 1024 names, and later when there are twice as many names as after the
/// previous sweep. So up to 1024 names stay, or up to twice the live ones.
#[derive(Clone)]
pub struct MemoryStore {
    clock: AnyClock,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    by_name: HashMap<Box<str>, Entry>,
    /// The next sweep starts when there are so many names.
    sweep_at: usize,
}

#[derive(Default)]
struct Entry {
    token: Option<Record>,
    note: Option<Record>,
    lease: Option<([u8; 16], Instant)>,
}

struct Record {
    version: [u8; 16],
    bytes: Vec<u8>,
    expires: Instant,
}

const FIRST_SWEEP: usize = 1024;

impl MemoryStore {
    /// An empty store with the clock of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose records and leases expire by this clock. It reads the monotonic time alone.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        Self { clock: AnyClock::Given(Arc::new(clock)), ..Self::default() }
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Entry, Instant) -> T) -> T {
        let now = self.clock.now().mono;
        let mut entries = self.entries.lock();
        if entries.by_name.len() >= entries.sweep_at.max(FIRST_SWEEP) {
            entries.by_name.retain(|_, entry| {
                entry.expire(now);
                !entry.is_empty()
            });
            entries.sweep_at = 2 * entries.by_name.len();
        }
        let entry = entries.by_name.entry(name.into()).or_default();
        entry.expire(now);
        change(entry, now)
    }
}

impl TokenStore for MemoryStore {
    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        Ok(self.change(name, |entry, now| {
            let is_seen = |record: &Record| seen == Some(record.version);
            let note_is_seen = entry.note.as_ref().is_some_and(is_seen);
            if let Some(token) = entry.token.as_ref().filter(|token| !note_is_seen && !is_seen(token)) {
                return Claim::Token(token.stored(now));
            }
            if let Some(note) = entry.note.as_ref().filter(|_| !note_is_seen) {
                return Claim::Note(note.stored(now));
            }
            match &entry.lease {
                Some((holder, until)) if holder != owner => Claim::Wait(until.saturating_duration_since(now)),
                _ => {
                    entry.lease = Some((*owner, after(now, ttl)));
                    Claim::Lease
                }
            }
        }))
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        Ok(self.change(name, |entry, now| {
            if entry.lease.is_none_or(|(holder, _)| holder != *owner) {
                return false;
            }
            entry.lease = None;
            let record = |version, bytes: &[u8], keep| {
                Some(Record { version, bytes: bytes.to_vec(), expires: after(now, keep) })
            };
            match outcome {
                Outcome::Token { version, bytes, keep } => {
                    entry.token = record(version, bytes, keep);
                    entry.note = None;
                }
                Outcome::Note { version, bytes, keep } => entry.note = record(version, bytes, keep),
                Outcome::Nothing => {}
            }
            true
        }))
    }
}

fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).unwrap_or(now)
}

impl Entry {
    fn expire(&mut self, now: Instant) {
        for record in [&mut self.token, &mut self.note] {
            record.take_if(|record| record.expires <= now);
        }
        self.lease.take_if(|(_, until)| *until <= now);
    }

    fn is_empty(&self) -> bool {
        self.token.is_none() && self.note.is_none() && self.lease.is_none()
    }
}

impl Record {
    fn stored(&self, now: Instant) -> Stored {
        let left = self.expires.saturating_duration_since(now);
        Stored { version: self.version, bytes: self.bytes.clone(), left }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { clock: AnyClock::System, entries: Arc::default() }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("names", &self.entries.lock().by_name.len()).finish()
    }
}
