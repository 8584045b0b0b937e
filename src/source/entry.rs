//! A key with its slot, and the token that requests read without a lock.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};

use super::fetch_handle::{FetchHandle, FetchOutcome};
use super::jitter::Jitter;
use super::slot::{Removed, Slot, is_fresh, is_usable};
use crate::clock::Now;
use crate::token::{self, Token};

pub(crate) struct Entry<K> {
    pub(super) key: Arc<K>,
    /// The slot's current token, written under the slot's lock and read without it.
    published: ArcSwapOption<token::Inner>,
    /// The address of the current token, to compare it with a token that a caller holds. 0 if there is no token.
    current: AtomicUsize,
    slot: Mutex<Slot<FetchHandle>>,
    /// Whether the key has ever had a token.
    had_token: AtomicBool,
    /// The tick of the last use.
    last_use: AtomicU64,
}

/// The lock of a slot. After it has released the lock, it drops the errors that the slot no longer needs and wakes the
/// callers that have to look again, because both may run code of the user.
pub(super) struct SlotGuard<'a> {
    // The order matters: the fields are dropped in this order.
    slot: MutexGuard<'a, Slot<FetchHandle>>,
    removed: Unneeded,
}

/// What a slot no longer needs. Dropping it wakes callers, and may run code of the user.
#[derive(Default)]
pub(super) struct Unneeded(Removed<FetchHandle>);

impl Drop for Unneeded {
    fn drop(&mut self) {
        for handle in self.0.handles.drain(..) {
            handle.finish(FetchOutcome::LookAgain);
        }
    }
}

impl SlotGuard<'_> {
    /// Releases the lock. Returns what the slot no longer needs.
    pub(super) fn release(mut self) -> Unneeded {
        Unneeded(self.slot.take_removed())
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
        self.removed = Unneeded(self.slot.take_removed());
    }
}

/// The order of eviction: the smallest rank first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionRank {
    class: EvictionClass,
    last_use: u64,
}

impl EvictionRank {
    pub(super) fn never_had_token(&self) -> bool {
        self.class == EvictionClass::NeverHadToken
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionClass {
    /// The key has never had a token. If there are few of these keys, it counts as one of the other classes.
    NeverHadToken,
    Expired,
    Usable,
    GuardsIssuer,
}

impl<K> Entry<K> {
    pub(super) fn new(key: Arc<K>, jitter: Jitter, last_use: u64) -> Self {
        Self {
            key,
            published: ArcSwapOption::const_empty(),
            current: AtomicUsize::new(0),
            slot: Mutex::new(Slot::new(jitter)),
            had_token: AtomicBool::new(false),
            last_use: AtomicU64::new(last_use),
        }
    }

    /// The token, if it is fresh: it is usable, and no refresh is due.
    #[inline]
    pub(super) fn fresh(&self, now: Now) -> Option<Token> {
        self.published_if(|token| is_fresh(token, now))
    }

    /// The token, if it is usable.
    pub(super) fn usable(&self, now: Now) -> Option<Token> {
        match self.published.load_full() {
            Some(inner) => Some(Token { inner }).filter(|token| is_usable(token, now)),
            // The slot has no token, or requests have to look at it.
            None => self.lock().usable(now).cloned(),
        }
    }

    /// Whether `token` is still the slot's current one.
    pub(super) fn is_current(&self, token: &Token) -> bool {
        // The caller holds `token`, so no other token can have its address.
        self.current.load(Ordering::Acquire) == Arc::as_ptr(&token.inner).addr()
    }

    // Inlined into `TokenSource::cached`; see there.
    #[inline(always)]
    fn published_if(&self, condition: impl FnOnce(&Token) -> bool) -> Option<Token> {
        let token = Token { inner: self.published.load_full()? };
        condition(&token).then_some(token)
    }

    pub(super) fn lock(&self) -> SlotGuard<'_> {
        SlotGuard { slot: self.slot.lock(), removed: Unneeded::default() }
    }

    /// Publishes the slot's current token to readers without the lock. Call this after every change, with the lock
    /// held.
    pub(super) fn publish(&self, slot: &Slot<FetchHandle>, now: Now) {
        let token = slot.published(now).map(|token| Arc::clone(&token.inner));
        let address = token.as_ref().map_or(0, |token| Arc::as_ptr(token).addr());
        // Most calls change nothing, and a write would invalidate the cache lines of other cores.
        if self.current.load(Ordering::Relaxed) != address {
            self.had_token.fetch_or(address != 0, Ordering::Relaxed);
            self.published.store(token);
            self.current.store(address, Ordering::Release);
        }
    }

    /// Records a use. An older tick changes nothing.
    pub(super) fn touch(&self, tick: u64) {
        // A busy key is touched often within one tick. Without the check, each use would write a cache line that cores share.
        if self.last_use.load(Ordering::Relaxed) < tick {
            self.last_use.fetch_max(tick, Ordering::Relaxed);
        }
    }

    /// Drops the state that is no longer needed. A sweep calls this, so that an idle key does not keep it.
    pub(super) fn prune(&self, now: Now) -> Unneeded {
        let mut slot = self.lock();
        slot.prune(now);
        self.publish(&slot, now);
        slot.release()
    }

    /// Whether the key has ever had a token.
    pub(super) fn had_token(&self) -> bool {
        self.had_token.load(Ordering::Relaxed)
    }

    /// `None` while a fetch runs: then the key cannot be evicted. `never_first` is whether keys that have never had a token
    /// are evicted first.
    pub(super) fn eviction_rank(&self, never_first: bool, now: Now) -> Option<EvictionRank> {
        let slot = self.slot.lock();
        if slot.in_flight().is_some() {
            return None;
        }
        let class = if never_first && !self.had_token() {
            EvictionClass::NeverHadToken
        } else if slot.guards_issuer(now) {
            EvictionClass::GuardsIssuer
        } else if slot.usable(now).is_some() {
            EvictionClass::Usable
        } else {
            EvictionClass::Expired
        };
        Some(EvictionRank { class, last_use: self.last_use.load(Ordering::Relaxed) })
    }

    /// Marks the slot as evicted, unless a fetch has started meanwhile. Returns whether it did.
    pub(super) fn evict(&self) -> bool {
        let mut slot = self.slot.lock();
        slot.evicted = slot.in_flight().is_none();
        slot.evicted
    }
}
