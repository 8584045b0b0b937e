//! A real issuer, its counts, and what this crate makes of its responses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_bearer_auth::token_endpoint::TokenRequest;
use tower_bearer_auth::{
    BearerAuth, BoxError, ClientCredentials, ClientCredentialsBuilder, Clock, Error, ErrorKind, Now, SystemClock,
    TokenProvider, TokenSource, TokenSourceBuilder, replay,
};

use crate::plain::{self, Http};
use crate::suite::{Check, Facts, Failure, Suite, equal, fail, holds};

/// A part of every secret, to search for leaks.
pub const CANARY: &str = "7fQ2";

/// One request, as the server recorded it.
#[derive(Clone, Debug, Deserialize)]
pub struct Noted {
    pub path: String,
    pub authorization: Option<String>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub challenge: Option<String>,
    /// The time until the deadline of a gRPC call.
    #[serde(default)]
    pub seconds_left: Option<f64>,
}

/// The requests at a server since a moment.
pub struct Since {
    control: String,
    path: String,
    seen: usize,
}

impl Since {
    pub async fn now(facts: &Facts, path: &'static str) -> Check<Self> {
        Self::now_at(facts, path.to_owned()).await
    }

    pub async fn now_at(facts: &Facts, path: String) -> Check<Self> {
        let seen = all_noted(facts).await?.len();
        Ok(Self { control: facts.control.clone(), path, seen })
    }

    pub async fn noted(&self) -> Check<Vec<Noted>> {
        let all = noted(&self.control, self.seen).await?;
        Ok(all.into_iter().filter(|noted| noted.path == self.path).collect())
    }

    /// The requests since the last call of this method. The next call begins after them.
    pub async fn take(&mut self) -> Check<Vec<Noted>> {
        let all = noted(&self.control, self.seen).await?;
        self.seen += all.len();
        Ok(all.into_iter().filter(|noted| noted.path == self.path).collect())
    }

    pub async fn statuses(&self) -> Check<Vec<u16>> {
        Ok(self.noted().await?.iter().map(|noted| noted.status.unwrap_or_default()).collect())
    }

    pub async fn count(&self) -> Check<u64> {
        Ok(self.noted().await?.len() as u64)
    }
}

pub async fn all_noted(facts: &Facts) -> Check<Vec<Noted>> {
    noted(&facts.control, 0).await
}

/// What a server that notes no requests has counted: `requests`, and what else it counts.
pub async fn counted(facts: &Facts, what: &str) -> Check<u64> {
    let counts = plain::get_json(&format!("{}/count", facts.control)).await?;
    counts[what].as_u64().ok_or_else(|| Failure(format!("{} counts no {what}", facts.server)))
}

/// The number of tokens that the issuer issued, according to its own events.
pub async fn tokens_issued(facts: &Facts) -> Check<usize> {
    let events = plain::get_json_list(&facts.control, "/events").await?;
    Ok(events.iter().filter(|event| event["event"] == "success").count())
}

async fn noted(control: &str, since: usize) -> Check<Vec<Noted>> {
    Ok(serde_json::from_value(plain::get_json(&format!("{control}/requests?since={since}")).await?)?)
}

/// A clock that the test advances.
#[derive(Clone)]
pub struct Ahead(Arc<Mutex<Now>>);

impl Ahead {
    pub fn by(&self, more: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.after(more);
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(SystemClock.now())))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that stands still, so that every token seems fresh.
pub struct Stopped(pub Now);

impl Stopped {
    pub fn now() -> Self {
        Self(SystemClock.now())
    }
}

impl Clock for Stopped {
    fn now(&self) -> Now {
        self.0
    }
}

pub type Stack<P> = BearerAuth<Http, P, replay::Cloned>;

/// The layer around hyper-util's client, as users build it.
pub fn stack<P: TokenProvider>(source: &TokenSource<P>) -> Stack<P> {
    source.layer().bodies(replay::Cloned).audit_all().layer(plain::http())
}

pub async fn call<S, B>(stack: &S, request: Request<Full<Bytes>>) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError> + Clone,
{
    stack.clone().oneshot(request).await
}

/// The expected error.
#[derive(Clone, Copy)]
pub struct Expected {
    pub kind: ErrorKind,
    pub transient: bool,
    pub status: Option<u16>,
    pub code: Option<&'static str>,
    /// A part of the hint. Empty if there is no hint.
    pub hint: &'static str,
}

pub const fn permanent(kind: ErrorKind, status: u16, code: Option<&'static str>, hint: &'static str) -> Expected {
    Expected { kind, transient: false, status: Some(status), code, hint }
}

pub fn says(error: &Error, expected: Expected) -> Check {
    equal("kind", error.kind(), expected.kind)?;
    equal("transient", error.is_transient(), expected.transient)?;
    equal("status", error.status().map(|status| status.as_u16()), expected.status)?;
    equal("code", error.code(), expected.code)?;
    match error.hint() {
        // A transient error may have a general hint.
        Some(_) if expected.hint.is_empty() && expected.transient => {}
        Some(hint) if expected.hint.is_empty() => return fail(format!("an unexpected hint: {hint}")),
        Some(hint) => holds(hint.contains(expected.hint), format!("the hint {hint:?} has no {:?}", expected.hint))?,
        None => equal("hint", "", expected.hint)?,
    }
    let shown = format!("{error} {error:?}");
    holds(!shown.contains(CANARY), "the error shows the secret")
}

/// Makes a custom token request from the client's secret.
pub type Makes = fn(&str) -> TokenRequest;

/// What is wrong with a custom request, and the expected error.
pub type Own = (&'static str, Makes, Expected);

/// One row of the table in docs/issuers.md.
pub struct Observed {
    pub server: String,
    pub what: String,
    pub noted: Noted,
    pub error: Error,
}

/// Uses a failing provider through a source and through a layer, and checks the counts of the issuer.
///
/// There is one token request, every caller gets its error, and the API receives nothing.
pub async fn fails<P: TokenProvider<Key = ()>>(
    suite: &mut Suite,
    (facts, path): (&Facts, &'static str),
    api: &Facts,
    observed: &mut Vec<Observed>,
    what: &str,
    provider: Result<P, impl Into<Error>>,
    expected: Expected,
) {
    let mut row = None;
    let work = async {
        let source = impatient(provider.map_err(Into::into)?).build();
        let at_issuer = Since::now(facts, path).await?;
        let at_api = Since::now(api, "/opaque").await?;
        let error = match source.token().await {
            Ok(_) => return fail("there is a token"),
            Err(error) => error,
        };
        says(&error, expected)?;
        let layer = source.layer().allow_origin(&api.url)?;
        let request = Request::get(format!("{}/opaque", api.url)).body(Full::default())?;
        let through_layer = match call(&layer.layer(plain::http()), request).await {
            Ok(response) => return fail(format!("the layer got a reply: {}", response.status())),
            Err(error) => error,
        };
        let found = Error::find(&*through_layer);
        equal("kind through the layer", found.map(Error::kind), Some(expected.kind))?;
        holds(found.and_then(Error::retry_after).is_some(), "the error has no retry_after")?;
        let noted = at_issuer.noted().await?;
        equal("statuses at the issuer", statuses(&noted), expected.status.into_iter().collect::<Vec<_>>())?;
        equal("requests at the API", at_api.count().await?, 0)?;
        let stats = source.stats();
        equal("fetches", (stats.fetches, stats.fetches_failed), (1, 1))?;
        row = noted.into_iter().next().map(|noted| Observed {
            server: facts.server.clone(),
            what: what.into(),
            noted,
            error,
        });
        Ok(())
    };
    suite.case(&format!("rejected: {what}"), work).await;
    observed.extend(row);
}

fn statuses(noted: &[Noted]) -> Vec<u16> {
    noted.iter().map(|noted| noted.status.unwrap_or_default()).collect()
}

/// A source whose callers do not wait for a transient failure to pass, so that one failed fetch is one error.
pub fn impatient<P: TokenProvider>(provider: P) -> TokenSourceBuilder<P> {
    TokenSource::builder(provider).patience(Duration::ZERO)
}

/// The error of a source that gets no token.
pub fn failed<T>(outcome: Result<T, Error>) -> Check<Error> {
    match outcome {
        Ok(_) => fail("there is a token"),
        Err(error) => Ok(error),
    }
}

/// A client with its secret in the form, which every issuer here accepts.
pub fn post(token_url: &str, client: &str, secret: &str, api: &Facts) -> ClientCredentialsBuilder {
    ClientCredentials::builder().token_url(token_url).client_id(client).client_secret(secret).api_origin(&api.url)
}

/// Introspects `token` with the credentials of another client (RFC 7662).
pub async fn introspect(url: &str, secret: &str, token: &str) -> Check<Value> {
    let fields = [("token", token), ("client_id", "introspector"), ("client_secret", secret)];
    let reply = plain::post_form(url, &fields).await?;
    equal("introspection", reply.status.as_u16(), 200)?;
    reply.json()
}
