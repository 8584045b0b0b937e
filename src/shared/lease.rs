//! A lease: renew it, publish under it, release it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::client::Client;
use super::note::Note;
use super::random;
use super::record::{self, Kind};
use super::store::{Claim, Outcome, StoreError, TokenStore};
use crate::clock::{AnyClock, Now};
use crate::provider::FetchContext;
use crate::rt;
use crate::token::IssuedToken;

/// The longest life of a lease. A holder that dies delays others for this long.
const MAX_TTL: Duration = Duration::from_secs(4);
/// The longest time that a claim can have to wait for a lease. A store may round it to whole seconds.
pub(super) const LONGEST_WAIT: Duration = MAX_TTL.saturating_add(Duration::from_secs(1));
/// How many seconds a task waits before each call of a store that does not respond.
const RETRIES: [u64; 6] = [0, 1, 2, 4, 8, 16];

/// What a fetch leaves in the store.
pub(super) enum Publication {
    Token { token: IssuedToken, lifetime: Duration, minted: Minted },
    Note { note: Note, at: Now, keep: Duration },
    Nothing,
}

/// When a token was minted.
#[derive(Clone, Copy)]
pub(super) struct Minted {
    /// How old it was at `at`.
    pub(super) age: Duration,
    pub(super) at: Now,
}

impl Minted {
    /// By the clock that measures more, because one of them may have stopped.
    pub(super) fn age(&self, now: Now) -> Duration {
        self.age.saturating_add(now.since(&self.at))
    }
}

/// A lease that this fetch has, or may have: a call without a response may be carried out later. Dropping it releases it, in a
/// task of its own.
pub(super) struct Lease<S: TokenStore>(Option<Parts<S>>);

struct Parts<S> {
    client: Arc<Client<S>>,
    name: String,
    owner: [u8; 16],
    ttl: Duration,
    clock: AnyClock,
    /// The versions that the fetch has read and does not want.
    skipped: Vec<[u8; 16]>,
    may_be_held: bool,
}

impl<S: TokenStore> Lease<S> {
    /// No lease yet. Its life depends on the time that the fetch has.
    ///
    /// # Errors
    ///
    /// The operating system has no random bytes.
    pub(super) fn new(client: &Arc<Client<S>>, name: String, cx: &FetchContext) -> Result<Self, StoreError> {
        Ok(Self(Some(Parts {
            client: Arc::clone(client),
            name,
            owner: random::bytes()?,
            ttl: (cx.time_left() / 3).min(MAX_TTL),
            clock: cx.clock().clone(),
            skipped: Vec::new(),
            may_be_held: false,
        })))
    }

    /// The fetch has read this version, and does not want it.
    pub(super) fn skip(&mut self, version: [u8; 16]) {
        if let Some(parts) = &mut self.0 {
            parts.skipped.push(version);
        }
    }

    pub(super) fn last_skipped(&self) -> Option<[u8; 16]> {
        self.0.as_ref()?.seen()
    }

    pub(super) fn name(&self) -> &str {
        self.0.as_ref().map_or("", |parts| &parts.name)
    }

    pub(super) async fn claim(&mut self, cx: &FetchContext) -> Result<Claim, StoreError> {
        let Some(parts) = &mut self.0 else { return Ok(Claim::Wait(Duration::ZERO)) };
        parts.may_be_held = true;
        let claim = parts.client.claim(cx, &parts.name, &parts.owner, parts.ttl, parts.seen()).await?;
        parts.may_be_held = claim == Claim::Lease;
        Ok(claim)
    }

    /// Renews the lease every third of its life. Does not return.
    pub(super) async fn renew(&self, cx: &FetchContext) -> Infallible {
        if let Some(parts) = &self.0
            && let Ok(mut timer) = rt::timer(parts.ttl / 3)
        {
            let mut seen = parts.seen();
            loop {
                timer.as_mut().await;
                let mut claim = parts.client.claim(cx, &parts.name, &parts.owner, parts.ttl, seen).await;
                if let Ok(Claim::Token(stored) | Claim::Note(stored)) = &claim
                    && parts.skipped.contains(&stored.version)
                {
                    // The note beside the token has expired.
                    seen = Some(stored.version);
                    claim = parts.client.claim(cx, &parts.name, &parts.owner, parts.ttl, seen).await;
                }
                if let Ok(Claim::Token(_) | Claim::Note(_)) = claim {
                    // Another fetch has published, so there is nothing to hold.
                    break;
                }
                let next = timer.deadline() + parts.ttl / 3;
                timer.as_mut().reset(next);
            }
        }
        pending().await
    }

    /// Publishes, and releases the lease. Returns whether this fetch still held it.
    pub(super) async fn publish(&mut self, cx: &FetchContext, publication: &Publication) -> Result<bool, StoreError> {
        let Some(parts) = &mut self.0 else { return Ok(false) };
        let sealed = parts.seal(publication).inspect_err(|error| parts.client.failed(cx, error))?;
        let held = parts.client.publish(cx, &parts.name, &parts.owner, sealed.outcome()).await?;
        parts.may_be_held = false;
        Ok(held)
    }

    /// Publishes in a task of its own, when the store responds.
    pub(super) fn publish_later(mut self, publication: Publication) {
        if let Some(parts) = self.0.take() {
            spawn(parts, publication);
        }
    }
}

impl<S: TokenStore> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take().filter(|parts| parts.may_be_held) {
            spawn(parts, Publication::Nothing);
        }
    }
}

fn spawn<S: TokenStore>(parts: Parts<S>, publication: Publication) {
    // Without a runtime, or in one that ends, the lease ends by itself.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(parts.publish_later(publication));
    }
}

impl<S: TokenStore> Parts<S> {
    async fn publish_later(self, publication: Publication) {
        for delay in RETRIES {
            let Ok(timer) = rt::timer(Duration::from_secs(delay)) else { return };
            timer.await;
            if self.try_publish(&publication).await.is_ok() {
                return;
            }
        }
    }

    async fn try_publish(&self, publication: &Publication) -> Result<(), StoreError> {
        let Self { client, name, owner, .. } = self;
        let sealed = self.seal(publication)?;
        let held = client.publish_in_background(name, owner, sealed.outcome()).await?;
        if held || !matches!(publication, Publication::Token { .. }) {
            return Ok(());
        }
        // The claim was never carried out. The token is for the others nevertheless, if they have none.
        if client.claim_in_background(name, owner, self.ttl, self.seen()).await? == Claim::Lease {
            client.publish_in_background(name, owner, sealed.outcome()).await?;
        }
        Ok(())
    }

    /// The version that the fetch has read last.
    fn seen(&self) -> Option<[u8; 16]> {
        self.skipped.last().copied()
    }

    fn seal(&self, publication: &Publication) -> Result<Sealed, StoreError> {
        let now = self.clock.now();
        let (kind, plain, keep) = match publication {
            Publication::Token { token, lifetime, minted } => {
                let age = minted.age(now);
                (Kind::Token, record::encode_token(token, *lifetime, age), lifetime.saturating_sub(age))
            }
            Publication::Note { note, at, keep } => (Kind::Note, note.encode(), keep.saturating_sub(now.since(at))),
            Publication::Nothing => return Ok(Sealed(None)),
        };
        // Stores keep records for whole milliseconds.
        if keep < Duration::from_millis(1) {
            return Ok(Sealed(None));
        }
        let version = random::bytes()?;
        let bytes = self.client.sealer.seal(kind, &self.name, version, keep, &plain)?;
        Ok(Sealed(Some((kind, version, bytes, keep))))
    }
}

/// A sealed publication. `None`: nothing.
struct Sealed(Option<(Kind, [u8; 16], Vec<u8>, Duration)>);

impl Sealed {
    fn outcome(&self) -> Outcome<'_> {
        match &self.0 {
            Some((Kind::Token, version, bytes, keep)) => Outcome::Token { version: *version, bytes, keep: *keep },
            Some((Kind::Note, version, bytes, keep)) => Outcome::Note { version: *version, bytes, keep: *keep },
            None => Outcome::Nothing,
        }
    }
}
