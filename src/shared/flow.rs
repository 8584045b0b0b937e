//! One fetch: take the token from the store, or get the lease and call the issuer for all processes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Sleep;

use super::client::{CALL_TIMEOUT, Client, OnStoreFailure};
use super::identity::Shareable;
use super::lease::{LONGEST_WAIT, Lease, Minted, Publication};
use super::note::Note;
use super::random;
use super::record::{self, Kind};
use super::store::{Claim, StoreError, Stored, TokenStore};
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::provider::{FetchContext, FetchReason, StoreEvent};
use crate::rt;
use crate::token::IssuedToken;

/// The first wait for another process, and the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_millis(500);
/// Each wait is drawn from this share below and above its length.
const WAIT_JITTER: f64 = 0.2;
/// A store that returns so many records that a fetch does not want is of no use to it.
const MAX_UNWANTED: u32 = 8;
/// How long a fetch that has a token loads the credentials again and publishes. Longer than one call of the store, so that a
/// call without a response is recorded.
const PUBLISH_TIMEOUT: Duration = CALL_TIMEOUT.saturating_add(Duration::from_millis(20));
/// How much the two clocks may differ about how long a token request took.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

pub(super) struct Flow<'a, P: Shareable, S> {
    pub(super) provider: &'a P,
    pub(super) client: &'a Arc<Client<S>>,
    pub(super) namespace: &'a str,
    pub(super) key: &'a P::Key,
    pub(super) cx: &'a FetchContext,
}

/// What a claim leads to.
enum Next {
    Return(Result<IssuedToken, Error>),
    /// Claim again. The fetch does not want this version.
    Skip([u8; 16]),
    Hold,
    Wait(Duration),
}

impl<P: Shareable, S: TokenStore> Flow<'_, P, S> {
    pub(super) async fn run(&self) -> Result<IssuedToken, Error> {
        let name = self.name().await?;
        if !self.client.admits(self.cx) {
            return self.fetch_alone(None).await;
        }
        let mut lease = match Lease::new(self.client, name.clone(), self.cx) {
            Ok(lease) => lease,
            Err(error) => {
                self.client.failed(self.cx, &error);
                return self.store_failed(error, None).await;
            }
        };
        let (mut unwanted, mut wait, mut missed, mut waited) = (0, FIRST_WAIT, false, false);
        loop {
            let sent = self.cx.now();
            let claim = match lease.claim(self.cx).await {
                Ok(claim) => claim,
                Err(error) => return self.store_failed(error, Some(lease)).await,
            };
            let next = self.next(&name, claim, sent);
            if matches!(next, Next::Hold | Next::Wait(_)) && !std::mem::replace(&mut missed, true) {
                self.cx.report(StoreEvent::Miss);
            }
            match next {
                Next::Return(result) => return result,
                Next::Skip(version) => {
                    unwanted += 1;
                    if unwanted > MAX_UNWANTED || lease.last_skipped() == Some(version) {
                        self.cx.report(StoreEvent::Miss);
                        let error = StoreError::new("the store returns only records of no use");
                        return self.store_failed(error, Some(lease)).await;
                    }
                    lease.skip(version);
                }
                Next::Hold => {
                    self.cx.report(StoreEvent::Leased);
                    return self.hold(&name, lease).await;
                }
                Next::Wait(left) if left > LONGEST_WAIT => {
                    let error = StoreError::new("the store has a lease that lives longer than any lease can");
                    return self.store_failed(error, Some(lease)).await;
                }
                Next::Wait(left) => {
                    if !std::mem::replace(&mut waited, true) {
                        self.cx.report(StoreEvent::Waited);
                    }
                    let jittered = wait.mul_f64(1.0 - WAIT_JITTER + 2.0 * WAIT_JITTER * random::unit());
                    // A store may round `left` down to zero.
                    rt::timer(jittered.min(left.max(FIRST_WAIT)))?.await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    async fn name(&self) -> Result<String, Error> {
        self.provider.identity(self.key).await?.name(self.namespace)
    }

    /// `sent` is when the call was sent: from then on the life of a record counts.
    fn next(&self, name: &str, claim: Claim, sent: Now) -> Next {
        match claim {
            Claim::Lease => Next::Hold,
            Claim::Wait(left) => Next::Wait(left),
            Claim::Token(stored) => match self.open_token(name, &stored, sent) {
                Some(token) if self.takes(&token) => {
                    self.cx.report(StoreEvent::Hit);
                    Next::Return(Ok(token))
                }
                _ => Next::Skip(stored.version),
            },
            Claim::Note(stored) => match self.open_note(name, &stored, sent) {
                Some(result) => {
                    self.cx.report(StoreEvent::Noted);
                    Next::Return(result)
                }
                None => Next::Skip(stored.version),
            },
        }
    }

    /// Whether the fetch takes this token from the store.
    ///
    /// It does not if two tokens from the store were rejected and no server had accepted them. A writer to the store may put
    /// older records back, and a record does not show that a newer one exists. If the API rejects every token, it has also
    /// rejected one that this process minted. The store is then not the cause. With [`OnStoreFailure::Fail`], the fetch takes
    /// the token: the issuer may revoke the tokens of the others when it mints one.
    fn takes(&self, token: &IssuedToken) -> bool {
        let doubtful = self.client.on_failure == OnStoreFailure::FetchAlone && self.cx.two_tokens_of_store_failed();
        !doubtful && self.cx.wants(token)
    }

    fn open_token(&self, name: &str, stored: &Stored, sent: Now) -> Option<IssuedToken> {
        let opened = self.client.sealer.open(Kind::Token, name, stored);
        let Some(token) = opened.as_ref().and_then(record::decode_token) else {
            self.cx.report(StoreEvent::Unopened);
            return None;
        };
        let age = token.age().unwrap_or_default().saturating_add(self.cx.now().since(&sent));
        Some(token.with_age(age).taken_from_store())
    }

    /// What a note means for this fetch. `None` if it does not concern it.
    fn open_note(&self, name: &str, stored: &Stored, sent: Now) -> Option<Result<IssuedToken, Error>> {
        let now = self.cx.now();
        let Some(opened) = self.client.sealer.open(Kind::Note, name, stored) else {
            self.cx.report(StoreEvent::Unopened);
            return None;
        };
        let left = opened.left.saturating_sub(now.since(&sent));
        let left = self.client.left_of_note(stored.version, left, now.mono)?;
        let Some(note) = Note::decode(&opened.plain, left) else {
            self.cx.report(StoreEvent::Unopened);
            return None;
        };
        match note {
            // The credentials may have been corrected.
            Note::Failure(error) if self.cx.is_by_rotation() && !error.is_transient() => None,
            Note::Failure(error) => Some(Err(error)),
            Note::Repeated { rejected } if !rejected && self.cx.reason() == FetchReason::Rejected => None,
            Note::Repeated { .. } => self.cx.usable_replaced().map(|token| Ok(token.to_issued(now))),
        }
    }

    /// Calls the issuer for all processes. If it cannot reach the issuer, the processes without a token wait until this fetch
    /// times out.
    async fn hold(&self, name: &str, mut lease: Lease<S>) -> Result<IssuedToken, Error> {
        let began = self.cx.now();
        let left = self.cx.time_left();
        let limit = left.saturating_sub(PUBLISH_TIMEOUT).max(left / 2);
        let result = {
            let mut timer = rt::timer(limit)?;
            let fetch = rt::within(timer.as_mut(), self.provider.fetch(self.key, self.cx));
            match select(pin!(fetch), pin!(lease.renew(self.cx))).await {
                Either::Left((Some(result), _)) => result,
                Either::Left((None, _)) => Err(timed_out()),
                Either::Right((never, _)) => match never {},
            }
        };
        let mut timer = self.publish_timer()?;
        let (result, publication) = self.outcome(name, result, began, timer.as_mut()).await;
        let published = self.publish(name, &mut lease, &publication, &result);
        match rt::within(timer.as_mut(), published).await {
            Some(Ok(newer)) => newer.map_or(result, Ok),
            Some(Err(_)) | None => {
                lease.publish_later(publication);
                result
            }
        }
    }

    /// Ends the work that follows a token request, before the timeout of the fetch would discard its token.
    fn publish_timer(&self) -> Result<Pin<Box<Sleep>>, Error> {
        rt::timer(PUBLISH_TIMEOUT.min(self.cx.time_left() / 10 * 9))
    }

    /// Returns a newer token, if the lease is gone and another process has published one.
    async fn publish(
        &self,
        name: &str,
        lease: &mut Lease<S>,
        publication: &Publication,
        result: &Result<IssuedToken, Error>,
    ) -> Result<Option<IssuedToken>, StoreError> {
        if lease.publish(self.cx, publication).await? {
            return Ok(None);
        }
        let (Publication::Token { .. }, Ok(own)) = (publication, result) else {
            return Ok(None);
        };
        let sent = self.cx.now();
        match lease.claim(self.cx).await? {
            Claim::Token(stored) => {
                let newer = self.open_token(name, &stored, sent);
                let newer = newer.filter(|token| self.takes(token) && self.cx.is_older(own, token));
                if newer.is_some() {
                    self.cx.report(StoreEvent::Hit);
                }
                Ok(newer)
            }
            Claim::Lease => lease.publish(self.cx, publication).await.map(|_| None),
            _ => Ok(None),
        }
    }

    async fn store_failed(&self, error: StoreError, lease: Option<Lease<S>>) -> Result<IssuedToken, Error> {
        match self.client.on_failure {
            OnStoreFailure::FetchAlone => self.fetch_alone(lease).await,
            OnStoreFailure::Fail => Err(Error::new(ErrorKind::Unavailable, "the shared store failed")
                .with_hint("the token is fetched only with the store, as on_store_failure says")
                .with_source(error)),
        }
    }

    /// Calls the issuer for this process. `lease`: a claim without a response, which may be carried out later.
    async fn fetch_alone(&self, lease: Option<Lease<S>>) -> Result<IssuedToken, Error> {
        let began = self.cx.now();
        let result = self.provider.fetch(self.key, self.cx).await;
        let Some(lease) = lease else {
            return result.map(|token| self.with_own_age(token, began));
        };
        let name = lease.name().to_owned();
        let mut timer = self.publish_timer()?;
        let (result, publication) = self.outcome(&name, result, began, timer.as_mut()).await;
        lease.publish_later(publication);
        result
    }

    /// The result of a token request that began at `began`, for this process and for the others. Nothing is for the others
    /// if the credentials cannot be loaded again before `timer` ends.
    async fn outcome(
        &self,
        name: &str,
        result: Result<IssuedToken, Error>,
        began: Now,
        timer: Pin<&mut Sleep>,
    ) -> (Result<IssuedToken, Error>, Publication) {
        let now = self.cx.now();
        // The credentials may have changed since the name was computed.
        let again = rt::within(timer, self.name()).await;
        let unchanged = again.and_then(Result::ok).is_some_and(|again| again == name);
        let (result, publication) = match result {
            Ok(token) => {
                let minted = match token.age() {
                    Some(age) => Minted { age, at: now },
                    None => Minted { age: Duration::ZERO, at: began },
                };
                let publication = self.publication(&token, minted, began, now);
                (Ok(self.with_own_age(token, began)), publication)
            }
            Err(error) => match Note::of(&error, || self.cx.permanent_backoff(random::unit())) {
                Some((note, keep)) => {
                    // So this process comes back no sooner than the others.
                    let error = if error.is_transient() { error } else { error.with_shared_backoff(keep) };
                    (Err(error), Publication::Note { note, at: now, keep })
                }
                None => (Err(error), Publication::Nothing),
            },
        };
        (result, if unchanged { publication } else { Publication::Nothing })
    }

    fn publication(&self, token: &IssuedToken, minted: Minted, began: Now, now: Now) -> Publication {
        if self.cx.knows(token) {
            let note = Note::Repeated { rejected: self.cx.reason() == FetchReason::Rejected };
            return Publication::Note { note, at: now, keep: self.cx.repeated_backoff() };
        }
        match token.clone().with_lifetime_since(token.minted_at(began, now), now) {
            Ok(token) => Publication::Token { lifetime: self.cx.lifetime_of(&token), token, minted },
            Err(_) => Publication::Nothing,
        }
    }

    /// The token request may have begun long after the fetch.
    fn with_own_age(&self, token: IssuedToken, began: Now) -> IssuedToken {
        if token.age().is_some() {
            return token;
        }
        let now = self.cx.now();
        let mono = now.mono.saturating_duration_since(began.mono);
        let age = Some(now.since(&began)).filter(|longer| *longer - mono <= CLOCK_TOLERANCE).unwrap_or(mono);
        token.with_age(age)
    }
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Timeout, "the token provider did not return in time")
        .with_hint("half a second of the fetch_timeout is for the shared store")
}
