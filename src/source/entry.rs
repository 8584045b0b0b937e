//! A key with its slot, and the token that requests read without a lock.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};

use super::fetch_handle::FetchHandle;
use super::jitter::Jitter;
use super::slot::{Slot, is_fresh, is_usable};
use crate::clock::Now;
use crate::error::Error;
use crate::token::{self, Token};

pub(crate) struct Entry<K> {
    pub(super) key: Arc<K>,
    /// The slot's current token, written under the slot's lock and read without it.
    published: ArcSwapOption<token::Inner>,
    /// The address of the current token, to compare it with a token that a caller holds. 0 if there is no token.
    current: AtomicUsize,
    slot: Mutex<Slot<FetchHandle>>,
    created_at: Instant,
    /// In seconds since `created_at`, written at most once a second.
    last_used: AtomicU64,
}

/// The lock of a slot. It drops the errors that the slot no longer needs after it has released the lock, because the
/// destructor of an error may run code of the user.
pub(super) struct SlotGuard<'a> {
    // The order matters: the fields are dropped in this order.
    slot: MutexGuard<'a, Slot<FetchHandle>>,
    removed: Vec<Error>,
}

impl SlotGuard<'_> {
    /// Releases the lock. Returns the errors that the slot no longer needs.
    pub(super) fn release(mut self) -> Vec<Error> {
        self.slot.take_removed_errors()
    }
}

impl Deref for SlotGuard<'_> {
    type Target = Slot<FetchHandle>;

    fn deref(&self) -> &Self::Target {
        &self.slot
    }
}

impl DerefMut for SlotGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.slot
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.removed = self.slot.take_removed_errors();
    }
}

/// The order of eviction: the smallest rank first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionRank {
    class: EvictionClass,
    used_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionClass {
    Expired,
    Usable,
    GuardsIssuer,
}

impl<K> Entry<K> {
    pub(super) fn new(key: Arc<K>, jitter: Jitter, now: Now) -> Self {
        Self {
            key,
            published: ArcSwapOption::const_empty(),
            current: AtomicUsize::new(0),
            slot: Mutex::new(Slot::new(jitter, now)),
            created_at: now.mono,
            last_used: AtomicU64::new(0),
        }
    }

    /// The token, if it is fresh: it is usable, and no refresh is due.
    pub(super) fn fresh(&self, now: Now) -> Option<Token> {
        self.published_if(|token| is_fresh(token, now))
    }

    /// The token, if it is usable.
    pub(super) fn usable(&self, now: Now) -> Option<Token> {
        self.published_if(|token| is_usable(token, now))
    }

    /// Whether `token` is still the slot's current one.
    pub(super) fn is_current(&self, token: &Token) -> bool {
        // The caller holds `token`, so no other token can have its address.
        self.current.load(Ordering::Acquire) == Arc::as_ptr(&token.inner).addr()
    }

    fn published_if(&self, condition: impl FnOnce(&Token) -> bool) -> Option<Token> {
        let token = Token { inner: self.published.load_full()? };
        condition(&token).then_some(token)
    }

    pub(super) fn lock(&self) -> SlotGuard<'_> {
        SlotGuard { slot: self.slot.lock(), removed: Vec::new() }
    }

    /// Publishes the slot's current token to readers without the lock. Call this after every change, with the lock
    /// held.
    pub(super) fn publish(&self, slot: &Slot<FetchHandle>) {
        let token = slot.current().map(|token| Arc::clone(&token.inner));
        let address = token.as_ref().map_or(0, |token| Arc::as_ptr(token).addr());
        self.published.store(token);
        self.current.store(address, Ordering::Release);
    }

    /// Records that the key was used now.
    pub(super) fn touch(&self, now: Now) {
        let second = now.mono.saturating_duration_since(self.created_at).as_secs();
        if self.last_used.load(Ordering::Relaxed) != second {
            self.last_used.store(second, Ordering::Relaxed);
        }
    }

    /// `None` while a fetch runs: then the key cannot be evicted.
    pub(super) fn eviction_rank(&self, now: Now) -> Option<EvictionRank> {
        let slot = self.slot.lock();
        if slot.in_flight().is_some() {
            return None;
        }
        let class = if slot.guards_issuer(now) {
            EvictionClass::GuardsIssuer
        } else if slot.usable(now).is_some() {
            EvictionClass::Usable
        } else {
            EvictionClass::Expired
        };
        let used = Duration::from_secs(self.last_used.load(Ordering::Relaxed));
        Some(EvictionRank { class, used_at: self.created_at.checked_add(used).unwrap_or(self.created_at) })
    }

    /// Marks the slot as evicted, unless a fetch has started meanwhile. Returns whether it did.
    pub(super) fn evict(&self) -> bool {
        let mut slot = self.slot.lock();
        slot.evicted = slot.in_flight().is_none();
        slot.evicted
    }
}
