//! A key's place in the map: its slot, and the token that requests may read without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};

use super::flight::Handle;
use super::slot::{Jitter, Slot, is_fresh, is_usable};
use crate::clock::Now;
use crate::token::{self, Token};

pub(crate) struct Entry<K> {
    pub(super) key: Arc<K>,
    /// The slot's current token, written under the slot's lock and read without it.
    published: ArcSwapOption<token::Inner>,
    /// Which one that is, for who holds a token and asks whether it is still the current one. 0 where there is none.
    current: AtomicUsize,
    slot: Mutex<Slot<Handle>>,
    born: Instant,
    /// In seconds since `born`: written at most once a second.
    last_used: AtomicU64,
}

/// In which order keys are thrown out: the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    class: Class,
    used_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Expired,
    Usable,
    GuardsIssuer,
}

impl<K> Entry<K> {
    pub(super) fn new(key: K, jitter: Jitter, now: Now) -> Self {
        Self {
            key: Arc::new(key),
            published: ArcSwapOption::const_empty(),
            current: AtomicUsize::new(0),
            slot: Mutex::new(Slot::new(jitter, now)),
            born: now.mono,
            last_used: AtomicU64::new(0),
        }
    }

    /// The token that may be stamped without asking the slot: usable, and not due for renewal.
    pub(super) fn fresh(&self, now: Now) -> Option<Token> {
        self.published(|token| is_fresh(token, now))
    }

    /// The token that may be stamped.
    pub(super) fn usable(&self, now: Now) -> Option<Token> {
        self.published(|token| is_usable(token, now))
    }

    /// Whether `token` is still the slot's current one.
    pub(super) fn is_current(&self, token: &Token) -> bool {
        // No other token can have its address while somebody holds it.
        self.current.load(Ordering::Acquire) == Arc::as_ptr(&token.inner).addr()
    }

    fn published(&self, fits: impl FnOnce(&Token) -> bool) -> Option<Token> {
        let token = Token { inner: self.published.load_full()? };
        fits(&token).then_some(token)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slot<Handle>> {
        self.slot.lock()
    }

    /// Shows the slot's current token to those who do not lock. Called with the lock held, after every change.
    pub(super) fn publish(&self, slot: &Slot<Handle>) {
        let token = slot.current().map(|token| Arc::clone(&token.inner));
        let address = token.as_ref().map_or(0, |token| Arc::as_ptr(token).addr());
        self.published.store(token);
        self.current.store(address, Ordering::Release);
    }

    pub(super) fn touch(&self, now: Now) {
        let second = now.mono.saturating_duration_since(self.born).as_secs();
        if self.last_used.load(Ordering::Relaxed) != second {
            self.last_used.store(second, Ordering::Relaxed);
        }
    }

    /// `None` while a flight is in the air: such a key stays.
    pub(super) fn standing(&self, now: Now) -> Option<Standing> {
        let slot = self.slot.lock();
        if slot.flight().is_some() {
            return None;
        }
        let class = if slot.guards_issuer(now) {
            Class::GuardsIssuer
        } else if slot.usable(now).is_some() {
            Class::Usable
        } else {
            Class::Expired
        };
        let used = std::time::Duration::from_secs(self.last_used.load(Ordering::Relaxed));
        Some(Standing { class, used_at: self.born.checked_add(used).unwrap_or(self.born) })
    }

    /// Takes the key out of use, unless a flight has started meanwhile.
    pub(super) fn evict(&self) -> bool {
        let mut slot = self.slot.lock();
        slot.evicted = slot.flight().is_none();
        slot.evicted
    }
}
