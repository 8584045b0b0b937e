//! The issuer of a scenario. It records every token request.

use std::collections::BTreeMap;
use std::future;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tower_bearer_auth::{Error, ErrorKind, FetchContext, FetchReason, IssuedToken, TokenProvider, TokenSource};

use crate::clock::VirtualClock;
use crate::format::{Forget, Given, Lifetime, Response};
use crate::user_code::{Cause, Key};

const DEFAULT_DELAY: Duration = Duration::from_millis(100);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// The issuer, as the source with this number sees it.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) source: usize,
    pub(crate) shared: Arc<Shared>,
    /// The source itself, for a fetch that calls it.
    pub(crate) own: Arc<OnceLock<Weak<TokenSource<Self>>>>,
}

pub(crate) struct Shared {
    clock: VirtualClock,
    given: Given,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<TokenRequest>,
    /// The n-th token has the number n.
    minted: Vec<Minted>,
    /// How many requests each key has made.
    of_key: BTreeMap<(usize, String), usize>,
    open: BTreeMap<(usize, String), u64>,
    most_open: u64,
    open_now: u64,
    /// The API rejects tokens up to this number.
    revoked_up_to: u64,
    revoked: Vec<u64>,
}

impl State {
    /// The number of the token of `key` that a fetch replaces.
    fn replaced(&self, key: &(usize, String), cx: &FetchContext) -> u64 {
        let own = self.minted.iter().zip(1..).filter(|(minted, _)| minted.key == *key);
        own.map(|(_, number)| number).find(|number| cx.replaces(&secret(*number))).unwrap_or(0)
    }
}

#[derive(Clone)]
pub(crate) struct TokenRequest {
    pub(crate) source: usize,
    pub(crate) key: String,
    pub(crate) at: Duration,
    pub(crate) reason: &'static str,
    /// The number of the token that it replaces; 0 if there is none.
    pub(crate) replaces: u64,
    pub(crate) challenges: usize,
    pub(crate) responded: bool,
    pub(crate) open: bool,
}

struct Minted {
    key: (usize, String),
    at: Duration,
    expires_at: Duration,
}

pub(crate) fn secret(number: u64) -> String {
    format!("token-{number}")
}

/// The number of the token with this secret, or with this header.
pub(crate) fn number(secret: &str) -> u64 {
    secret.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

impl Shared {
    pub(crate) fn new(clock: VirtualClock, given: Given) -> Self {
        Self { clock, given, state: Mutex::default() }
    }

    pub(crate) fn requests(&self) -> Vec<TokenRequest> {
        self.state.lock().requests.clone()
    }

    /// Whether a request is open.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().open_now > 0
    }

    pub(crate) fn most_open(&self) -> u64 {
        self.state.lock().most_open
    }

    /// Whether the API accepts a token that it has known for `lag`.
    pub(crate) fn is_valid(&self, number: u64, lag: Duration) -> bool {
        let (state, now) = (self.state.lock(), self.clock.passed());
        let Some(minted) = number.checked_sub(1).and_then(|index| state.minted.get(index as usize)) else {
            return false;
        };
        let newest = !self.given.newest_only || number as usize == state.minted.len();
        let revoked = number <= state.revoked_up_to || state.revoked.contains(&number);
        newest && !revoked && now >= minted.at + lag && now < minted.expires_at
    }

    pub(crate) fn revoke(&self, number: Option<u64>) {
        let mut state = self.state.lock();
        match number {
            Some(number) => state.revoked.push(number),
            None => state.revoked_up_to = state.minted.len() as u64,
        }
    }

    fn response(&self, key: &str, nth: usize, at: Duration) -> Response {
        let during = |outage: &&crate::format::Outage| (outage.from.0..outage.to.0).contains(&at);
        if let Some(outage) = self.given.outages.iter().find(during) {
            return outage.response.clone();
        }
        let own = self.given.keys.iter().find(|(prefix, _)| key.starts_with(prefix.as_str()));
        let responses = own.map_or(&self.given.issuer, |(_, responses)| responses);
        responses.get(nth).or_else(|| responses.last()).cloned().unwrap_or_default()
    }

    fn begin(&self, source: usize, key: &str, cx: &FetchContext) -> (usize, Response) {
        let at = self.clock.passed();
        let key = (source, key.to_owned());
        let state = &mut *self.state.lock();
        let replaces = if cx.reason() == FetchReason::First { 0 } else { state.replaced(&key, cx) };
        let nth = state.of_key.entry(key.clone()).or_default();
        let response = self.response(&key.1, *nth, at);
        *nth += 1;
        let open = state.open.entry(key.clone()).or_default();
        *open += 1;
        state.most_open = state.most_open.max(*open);
        state.open_now += 1;
        state.requests.push(TokenRequest {
            source,
            key: key.1,
            at,
            reason: reason(cx.reason()),
            replaces,
            challenges: cx.challenges().len(),
            responded: false,
            open: true,
        });
        (state.requests.len() - 1, response)
    }

    fn mint(&self, request: usize, response: &Response) -> Result<IssuedToken, Error> {
        let now = self.clock.passed();
        let state = &mut *self.state.lock();
        let key = (state.requests[request].source, state.requests[request].key.clone());
        let default = self.given.lifetime.map_or(DEFAULT_LIFETIME, |lifetime| lifetime.0);
        let lifetime = match response.lifetime {
            Some(Lifetime::Missing) => None,
            Some(Lifetime::Known(lifetime)) => Some(lifetime.0),
            None => Some(default),
        };
        let newest = || state.minted.iter().rposition(|minted| minted.key == key).map(|index| index as u64 + 1);
        let again = response.same_as.and_then(|number| if number == 0 { newest() } else { Some(number) });
        let (number, lifetime) = match again {
            Some(number) => {
                let left = state.minted[number as usize - 1].expires_at.saturating_sub(now);
                (number, if response.lifetime.is_some() { lifetime } else { Some(left) })
            }
            None => {
                // The lifetime counts from the start of the request, as for the source.
                let started = state.requests[request].at;
                let valid_for = lifetime.filter(|lifetime| !lifetime.is_zero()).unwrap_or(Duration::from_secs(300));
                state.minted.push(Minted { key, at: now, expires_at: started + valid_for });
                (state.minted.len() as u64, lifetime)
            }
        };
        let token = IssuedToken::bearer(secret(number))?;
        Ok(match lifetime {
            Some(lifetime) => token.expires_in(lifetime),
            None => token,
        })
    }
}

fn reason(reason: FetchReason) -> &'static str {
    match reason {
        FetchReason::First => "first",
        FetchReason::Expiring => "expiring",
        FetchReason::Rejected => "rejected",
        FetchReason::Rotated => "rotated",
        _ => "on_demand",
    }
}

/// The kinds of errors that an issuer returns.
const KINDS: [ErrorKind; 8] = [
    ErrorKind::InvalidCredentials,
    ErrorKind::InvalidRequest,
    ErrorKind::Throttled,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::MalformedResponse,
    ErrorKind::Config,
    ErrorKind::Other,
];

/// The error kind with this label.
fn kind(label: &str) -> ErrorKind {
    let found = KINDS.iter().find(|kind| kind.as_str() == label);
    *found.unwrap_or_else(|| panic!("there is no error kind `{label}`"))
}

impl TokenProvider for Issuer {
    type Key = Key;

    async fn fetch(&self, key: &Key, cx: &FetchContext) -> Result<IssuedToken, Error> {
        let (request, response) = self.shared.begin(self.source, &key.0, cx);
        let _open = Open { shared: &self.shared, request };
        let delay = response.delay.or(self.shared.given.delay).map_or(DEFAULT_DELAY, |delay| delay.0);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if response.never {
            future::pending::<()>().await;
        }
        if let (Some(forget), Some(source)) = (response.calls, self.own.get().and_then(Weak::upgrade)) {
            match forget {
                Forget::Invalidate => source.invalidate_for(key),
                Forget::Rotate => source.rotate(),
            }
        }
        self.shared.state.lock().requests[request].responded = true;
        if response.panics {
            // `resume_unwind` prints no message.
            resume_unwind(Box::new("the provider of the scenario"));
        }
        let Some(label) = &response.error else {
            return self.shared.mint(request, &response);
        };
        let error = if response.permanent { Error::permanent(Cause) } else { Error::transient(Cause) };
        let error = error.with_kind(kind(label));
        Err(match response.retry_after {
            Some(delay) => error.with_retry_after(delay.0),
            None => error,
        })
    }
}

struct Open<'a> {
    shared: &'a Shared,
    request: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let state = &mut *self.shared.state.lock();
        let request = &mut state.requests[self.request];
        state.open_now -= 1;
        request.open = false;
        if let Some(open) = state.open.get_mut(&(request.source, request.key.clone())) {
            *open -= 1;
        }
    }
}
