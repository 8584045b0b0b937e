//! A lease: renew it, publish under it, release it.

use std::convert::Infallible;
use std::future::pending;
use std::mem::take;
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

/// What a fetch leaves in the store. It is sealed for each call, because its age grows.
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
pub(super) struct Lease<S: TokenStore> {
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
        Ok(Self {
            client: Arc::clone(client),
            name,
            owner: random::bytes()?,
            ttl: (cx.time_left() / 3).min(MAX_TTL),
            clock: cx.clock().clone(),
            skipped: Vec::new(),
            may_be_held: false,
        })
    }

    /// The fetch has read this version, and does not want it.
    pub(super) fn skip(&mut self, version: [u8; 16]) {
        self.skipped.push(version);
    }

    pub(super) fn last_skipped(&self) -> Option<[u8; 16]> {
        self.skipped.last().copied()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn claim(&mut self, cx: &FetchContext) -> Result<Claim, StoreError> {
        self.may_be_held = true;
        let claim = self.call(cx, self.last_skipped()).await?;
        self.may_be_held = claim == Claim::Lease;
        Ok(claim)
    }

    async fn call(&self, cx: &FetchContext, seen: Option<[u8; 16]>) -> Result<Claim, StoreError> {
        self.client.claim(Some(cx), &self.name, &self.owner, self.ttl, seen).await
    }

    /// Renews the lease every third of its life. Does not return.
    pub(super) async fn renew(&self, cx: &FetchContext) -> Infallible {
        if let Ok(mut timer) = rt::timer(self.ttl / 3) {
            let mut seen = self.last_skipped();
            loop {
                timer.as_mut().await;
                let mut claim = self.call(cx, seen).await;
                if let Ok(Claim::Token(stored) | Claim::Note(stored)) = &claim
                    && self.skipped.contains(&stored.version)
                {
                    // The note beside the token has expired.
                    seen = Some(stored.version);
                    claim = self.call(cx, seen).await;
                }
                if let Ok(Claim::Token(_) | Claim::Note(_)) = claim {
                    // Another fetch has published, so there is nothing to hold.
                    break;
                }
                let next = timer.deadline() + self.ttl / 3;
                timer.as_mut().reset(next);
            }
        }
        pending().await
    }

    /// Publishes, and releases the lease. Returns whether this fetch still held it.
    pub(super) async fn publish(&mut self, cx: &FetchContext, publication: &Publication) -> Result<bool, StoreError> {
        let mut bytes = Vec::new();
        let outcome = self.seal(publication, &mut bytes).inspect_err(|error| self.client.failed(cx, error))?;
        let held = self.client.publish(Some(cx), &self.name, &self.owner, outcome).await?;
        self.may_be_held = false;
        Ok(held)
    }

    /// Publishes in a task of its own, when the store responds.
    pub(super) fn publish_later(mut self, publication: Publication) {
        // Without a runtime, or in one that ends, the lease ends by itself.
        self.may_be_held = false;
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.retry_to_publish(publication));
        }
    }

    async fn retry_to_publish(self, publication: Publication) {
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
        let mut bytes = Vec::new();
        let outcome = self.seal(publication, &mut bytes)?;
        let held = client.publish(None, name, owner, outcome).await?;
        if held || !matches!(publication, Publication::Token { .. }) {
            return Ok(());
        }
        // The claim was never carried out. The token is for the others nevertheless, if they have none.
        if client.claim(None, name, owner, self.ttl, self.last_skipped()).await? == Claim::Lease {
            client.publish(None, name, owner, outcome).await?;
        }
        Ok(())
    }

    /// Seals `publication` as it is now, into `bytes`.
    fn seal<'b>(&self, publication: &Publication, bytes: &'b mut Vec<u8>) -> Result<Outcome<'b>, StoreError> {
        let now = self.clock.now();
        let (kind, plain, keep) = match publication {
            Publication::Token { token, lifetime, minted } => {
                let age = minted.age(now);
                (Kind::Token, record::encode_token(token, *lifetime, age), lifetime.saturating_sub(age))
            }
            Publication::Note { note, at, keep } => (Kind::Note, note.encode(), keep.saturating_sub(now.since(at))),
            Publication::Nothing => return Ok(Outcome::Nothing),
        };
        // Stores keep records for whole milliseconds.
        if keep < Duration::from_millis(1) {
            return Ok(Outcome::Nothing);
        }
        let version = random::bytes()?;
        *bytes = self.client.sealer.seal(kind, &self.name, version, keep, &plain)?;
        Ok(match kind {
            Kind::Token => Outcome::Token { version, bytes, keep },
            Kind::Note => Outcome::Note { version, bytes, keep },
        })
    }
}

impl<S: TokenStore> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.may_be_held {
            let lease = Self {
                client: Arc::clone(&self.client),
                name: take(&mut self.name),
                clock: self.clock.clone(),
                skipped: take(&mut self.skipped),
                owner: self.owner,
                ttl: self.ttl,
                may_be_held: false,
            };
            lease.publish_later(Publication::Nothing);
        }
    }
}
