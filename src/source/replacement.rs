//! A new token that not every server may know yet, beside the old token that it replaces.

use std::mem;
use std::time::Instant;

use crate::clock::Now;
use crate::refresh;
use crate::token::Token;

/// The token that is not current: the old one, or the new one while it waits for its next try.
pub(super) struct Replacement {
    other: Token,
    new_is_current: bool,
    minted_at: Instant,
    /// How often the new token was rejected while the old one was kept.
    rejections: u32,
    rejected_at: Instant,
}

impl Replacement {
    /// The new token is current, and `old` is kept.
    pub(super) fn new(old: Token, now: Now) -> Self {
        Self { other: old, new_is_current: true, minted_at: now.mono, rejections: 0, rejected_at: now.mono }
    }

    pub(super) fn new_is_current(&self) -> bool {
        self.new_is_current
    }

    /// Whether the new token was rejected twice.
    pub(super) fn was_tried(&self) -> bool {
        self.rejections >= 2
    }

    /// The old token is current, and a server rejected it: the new one is current again.
    pub(super) fn try_new(&mut self, current: &mut Token) {
        mem::swap(current, &mut self.other);
        self.new_is_current = true;
    }

    /// The token that is not current.
    pub(super) fn other(&self) -> &Token {
        &self.other
    }

    /// The new token is current, and a server rejected it: the old one is current again.
    pub(super) fn fall_back(&mut self, current: &mut Token, now: Now) {
        mem::swap(current, &mut self.other);
        self.new_is_current = false;
        self.rejections = self.rejections.saturating_add(1);
        self.rejected_at = now.mono;
    }

    /// Whether the new token is accepted, and the old one was kept long enough.
    fn is_over(&self, current: &Token, now: Now) -> bool {
        let new = if self.new_is_current { current } else { &self.other };
        new.is_accepted() && refresh::passed(self.minted_at, refresh::KEEP_REPLACED, now.mono)
    }

    /// Makes the new token current when its next try is due. `usable` is whether a token is still usable. Returns whether
    /// the other token is no longer needed.
    pub(super) fn settle(&mut self, current: &mut Token, usable: impl Fn(&Token) -> bool, now: Now) -> bool {
        let over = self.is_over(current, now);
        if !self.new_is_current {
            let due = refresh::passed(self.rejected_at, refresh::replacement_delay(self.rejections), now.mono);
            if usable(&self.other) && (due || over || !usable(current)) {
                mem::swap(current, &mut self.other);
                self.new_is_current = true;
            }
        } else if !usable(current) && usable(&self.other) {
            mem::swap(current, &mut self.other);
            return true;
        }
        over || !usable(&self.other)
    }

    /// The token that is not current. The other one is no longer needed.
    pub(super) fn into_other(self) -> Token {
        self.other
    }
}
