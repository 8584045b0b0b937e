//! The reason for a fetch, and which tokens it accepts.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use http::HeaderValue;

use crate::clock::{AnyClock, Now, until_timer};
use crate::refresh::{self, RefreshPolicy};
use crate::token::{IssuedToken, Token};

/// Why a token is fetched, which token it replaces, and how much time the fetch has.
///
/// It is an argument of [`TokenProvider::fetch`](crate::TokenProvider::fetch). Most providers ignore it. In a unit test
/// of a provider, use `FetchContext::default()`.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "shared"), allow(dead_code, reason = "only `shared` needs all of it"))]
pub struct FetchContext {
    reason: FetchReason,
    tokens: KnownTokens,
    challenges: Vec<HeaderValue>,
    /// How long the caller of `token_valid_for` needs the token.
    valid_for: Duration,
    /// Whether `rotate` caused the fetch.
    by_rotation: bool,
    /// The number of permanent failures in a row before this fetch.
    permanent_failures: u32,
    policy: RefreshPolicy,
    clock: AnyClock,
    /// When the timeout of the fetch ends. `None`: never.
    deadline: Option<tokio::time::Instant>,
    observer: Option<Weak<dyn FetchObserver>>,
}

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// The key has no token yet.
    #[default]
    First,
    /// The token expires soon, or has expired.
    Expiring,
    /// A server rejected the token.
    Rejected,
    /// [`rotate`](crate::TokenSource::rotate) or [`invalidate`](crate::TokenSource::invalidate) removed the token.
    Rotated,
    /// [`refresh`](crate::TokenSource::refresh) or [`token_valid_for`](crate::TokenSource::token_valid_for) asked for a new
    /// token.
    OnDemand,
}

/// What a slot knows about the tokens that a fetch must not return.
#[derive(Clone, Default)]
pub(crate) struct KnownTokens {
    /// The token that the fetch replaces.
    pub(crate) replaced: Option<Token>,
    /// The newest token that `invalidate` or `rotate` removed, if no other was stored since.
    pub(crate) removed: Option<Token>,
    /// Tokens that servers rejected.
    pub(crate) rejected: Vec<Token>,
}

/// What the slot knows about a fetch.
#[derive(Default)]
pub(crate) struct FetchFacts {
    pub(crate) tokens: KnownTokens,
    pub(crate) challenges: Vec<HeaderValue>,
    pub(crate) valid_for: Duration,
    pub(crate) by_rotation: bool,
    pub(crate) permanent_failures: u32,
}

/// Counts and reports what a provider with a shared store does in a fetch.
#[cfg_attr(not(feature = "shared"), allow(dead_code, reason = "only `shared` has a store"))]
pub(crate) trait FetchObserver: Send + Sync {
    fn store(&self, event: StoreEvent<'_>);
}

/// What happened at a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "shared"), allow(dead_code, reason = "only `shared` has a store"))]
pub(crate) enum StoreEvent<'a> {
    /// A fetch took a token from the store.
    Hit,
    /// The store had no token that the fetch wanted.
    Miss,
    /// The fetch got the lease.
    Leased,
    /// The fetch began to wait for the lease of another one.
    Waited,
    /// The fetch adopted the failure of another process.
    Noted,
    /// A call of the store failed or timed out.
    Failed(&'a str),
    /// A record did not open.
    Unopened,
}

impl FetchContext {
    pub(crate) fn new(reason: FetchReason, facts: FetchFacts) -> Self {
        let FetchFacts { tokens, challenges, valid_for, by_rotation, permanent_failures } = facts;
        Self { reason, tokens, challenges, valid_for, by_rotation, permanent_failures, ..Self::default() }
    }

    /// What the task of the fetch adds.
    pub(crate) fn in_task(
        self,
        policy: RefreshPolicy,
        clock: AnyClock,
        deadline: tokio::time::Instant,
        observer: Weak<dyn FetchObserver>,
    ) -> Self {
        Self { policy, clock, deadline: Some(deadline), observer: Some(observer), ..self }
    }

    /// Why the token is fetched.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Whether `secret` is the token that this fetch replaces.
    ///
    /// A provider with a cache of its own must not return that token again. If it returns a token that was rejected, and not
    /// accepted since, the fetch counts as failed. [`wants`](Self::wants) checks this and more.
    #[must_use]
    pub fn replaces(&self, secret: &str) -> bool {
        self.tokens.replaced.as_ref().is_some_and(|token| token.expose_secret() == secret)
    }

    /// Whether this fetch may return `token`, which the provider has from a cache or a store.
    ///
    /// All of these must hold:
    ///
    /// - The token has usable life left: its age is less than its lifetime less the margin of the source's
    ///   [`RefreshPolicy`]. For [`token_valid_for`](crate::TokenSource::token_valid_for), it also lives as long as that call
    ///   asks for.
    /// - It is not the token that this fetch replaces, and it was not minted before that one.
    /// - No server has rejected it, except if one has accepted it since.
    /// - [`invalidate`](crate::TokenSource::invalidate) or [`rotate`](crate::TokenSource::rotate) did not remove it, and it was
    ///   not minted before the token that they removed.
    ///
    /// The age of the token is that of [`IssuedToken::with_age`], or zero. `FetchContext::default()` wants every token with
    /// usable life left by the default policy.
    #[must_use]
    pub fn wants(&self, token: &IssuedToken) -> bool {
        let now = self.clock.now();
        let minted = token.minted_at(now, now);
        let Ok(token) = token.clone().with_lifetime_since(minted, now) else {
            return false;
        };
        let lifetime = refresh::lifetime(token.lifetime());
        let age = token.age().unwrap_or_default();
        lifetime.saturating_sub(self.policy.margin_of(lifetime)) > age
            && lifetime.saturating_sub(age) >= self.valid_for
            && !self.tokens.has(&token)
            && self.tokens.floor().is_none_or(|floor| !minted.is_before(&floor))
    }

    /// The time until [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout) ends this fetch, by tokio's clock. After
    /// that, the source drops the future of the fetch.
    ///
    /// `Duration::MAX` for `FetchContext::default()`, which has no timeout.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, until_timer)
    }

    /// The `WWW-Authenticate` values of the response that rejected the token. Empty for any other reason.
    #[must_use]
    pub fn challenges(&self) -> &[HeaderValue] {
        &self.challenges
    }
}

/// What `shared` needs, too.
#[cfg(feature = "shared")]
impl FetchContext {
    pub(crate) fn clock(&self) -> &AnyClock {
        &self.clock
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn is_by_rotation(&self) -> bool {
        self.by_rotation
    }

    pub(crate) fn lifetime_of(&self, token: &IssuedToken) -> Duration {
        refresh::lifetime(token.lifetime())
    }

    /// Whether `token` is one that the fetch must not return.
    pub(crate) fn knows(&self, token: &IssuedToken) -> bool {
        self.tokens.has(token)
    }

    /// Whether two tokens were rejected that no server has ever accepted, and this fetch replaces one of them.
    pub(crate) fn two_new_tokens_failed(&self) -> bool {
        let is_new = |token: &&Token| !token.is_accepted();
        self.tokens.replaced.as_ref().filter(is_new).is_some()
            && self.tokens.rejected.iter().filter(is_new).count() >= 2
    }

    /// The token that this fetch replaces, if it is still usable.
    pub(crate) fn usable_replaced(&self) -> Option<&Token> {
        let now = self.clock.now();
        self.tokens.replaced.as_ref().filter(|token| !now.reached(&token.deadlines().usable_until))
    }

    /// Whether `token` was minted before `issued`, whose fetch has just ended.
    pub(crate) fn is_older(&self, issued: &IssuedToken, token: &IssuedToken) -> bool {
        let now = self.clock.now();
        issued.minted_at(now, now).is_before(&token.minted_at(now, now))
    }

    /// The backoff after a permanent failure of this fetch.
    pub(crate) fn permanent_backoff(&self, draw: f64) -> Duration {
        refresh::Backoff::permanent(self.permanent_failures, draw).length(refresh::Held::Nothing)
    }

    /// How long no other fetch asks an issuer that returned the replaced token again.
    pub(crate) fn repeated_backoff(&self) -> Duration {
        let left = self.usable_replaced().map(|token| self.clock.now().until(&token.deadlines().usable_until));
        match left {
            Some(left) if self.reason != FetchReason::Rejected => refresh::early_backoff(left),
            _ => refresh::throttle_interval(0),
        }
    }

    pub(crate) fn report(&self, event: StoreEvent<'_>) {
        if let Some(observer) = self.observer.as_ref().and_then(Weak::upgrade) {
            observer.store(event);
        }
    }
}

impl KnownTokens {
    fn all(&self) -> impl Iterator<Item = &Token> {
        self.replaced.iter().chain(&self.removed).chain(&self.rejected)
    }

    fn has(&self, issued: &IssuedToken) -> bool {
        self.all().any(|token| issued.same_secret(token))
    }

    /// The latest mint of the tokens that are replaced or removed.
    fn floor(&self) -> Option<Now> {
        let minted = |token: &Token| token.deadlines().fetched_at;
        let mut minted = self.replaced.iter().chain(&self.removed).map(minted);
        let first = minted.next()?;
        Some(minted.fold(first, |floor, other| if floor.is_before(&other) { other } else { floor }))
    }
}

// A server can repeat the token in a challenge, so `Debug` prints only the number of challenges.
impl fmt::Debug for FetchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchContext")
            .field("reason", &self.reason)
            .field("replaced", &self.tokens.replaced)
            .field("challenges", &self.challenges.len())
            .finish_non_exhaustive()
    }
}
