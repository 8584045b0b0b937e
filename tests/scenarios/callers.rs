//! What one step does, and the record of how it ended.

use std::future::Future;
use std::time::{Duration, SystemTime};

use http::Request;
use tower::ServiceExt as _;
use tower_bearer_auth::{BearerAuth, Error, Token, TokenSource, TokenStatus};

use crate::api::{Api, ORIGIN, Sent, ToRoute, Verdict, accepts};
use crate::clock::wall_start;
use crate::issuer::{Issuer, number};
use crate::user_code::Key;

/// How a step ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Token {
        number: u64,
        expires_at: Duration,
    },
    Error {
        kind: &'static str,
        transient: bool,
        retry_after: Option<Duration>,
    },
    /// A request that the API accepted.
    Accepted,
    Rejected,
    Other,
    /// What `reject` returned.
    Replay(bool),
    NoToken,
    Status(TokenStatus),
    Done,
}

/// One caller of one step.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) step: usize,
    pub(crate) start: Duration,
    /// How long it took to get the first token, or to fail.
    pub(crate) waited: Duration,
    /// How long it took until the end, with a replay.
    pub(crate) took: Duration,
    /// The first token was there at the first poll.
    pub(crate) at_once: bool,
    pub(crate) outcome: Outcome,
    /// When the request was sent, and with which tokens.
    pub(crate) sent: Vec<(Duration, u64)>,
}

impl Record {
    pub(crate) fn is_replayed(&self) -> bool {
        self.sent.len() > 1
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Error { .. })
    }

    pub(crate) fn is_rejected(&self) -> bool {
        matches!(self.outcome, Outcome::Rejected)
    }
}

/// The time of a wall clock reading, since the start of the scenario.
pub(crate) fn since_start(wall: SystemTime) -> Duration {
    wall.duration_since(wall_start()).unwrap_or_default()
}

impl Outcome {
    pub(crate) fn of_error(error: &Error) -> Self {
        Self::Error { kind: error.kind().as_str(), transient: error.is_transient(), retry_after: error.retry_after() }
    }

    pub(crate) fn of_token(token: &Token) -> Self {
        Self::Token { number: number(token.expose_secret()), expires_at: since_start(token.expires_at()) }
    }
}

/// A request through the layer.
pub(crate) fn through_layer(
    service: BearerAuth<Api, Issuer>,
    key: String,
    route: String,
    post: bool,
    sent: Sent,
) -> impl Future<Output = Outcome> + Send + 'static {
    let method = if post { http::Method::POST } else { http::Method::GET };
    let request = Request::builder().method(method).uri(format!("{ORIGIN}/{route}"));
    let request = request.extension(Key(key)).extension(ToRoute(route)).extension(sent);
    let request = request.body(String::new()).expect("the parts are valid");
    async move {
        match service.oneshot(request).await {
            Ok(response) if response.status() == 401 => Outcome::Rejected,
            Ok(response) if accepts(response.status().as_u16()) => Outcome::Accepted,
            Ok(_) => Outcome::Other,
            Err(error) => Outcome::of_error(Error::find(&*error).expect("an error of the layer")),
        }
    }
}

/// A request of a caller without the layer, as the documentation of `TokenSource::reject` shows it.
pub(crate) async fn by_hand(
    source: std::sync::Arc<TokenSource<Issuer>>,
    api: Api,
    key: String,
    route: String,
    sent: Sent,
) -> Outcome {
    let key = Key(key);
    let token = match source.token_for(&key).await {
        Ok(token) => token,
        Err(error) => return Outcome::of_error(&error),
    };
    match api.send(&route, number(token.expose_secret()), &sent).await {
        Verdict::Status(status) if accepts(status) => {
            source.accept(&token);
            return Outcome::Accepted;
        }
        Verdict::Status(_) => return Outcome::Other,
        Verdict::Rejected { .. } if !source.reject(&key, &token) => return Outcome::Rejected,
        Verdict::Rejected { .. } => {}
    }
    let Ok(token) = source.token_for(&key).await else { return Outcome::Rejected };
    match api.send(&route, number(token.expose_secret()), &sent).await {
        Verdict::Status(status) if accepts(status) => Outcome::Accepted,
        Verdict::Status(_) => Outcome::Other,
        Verdict::Rejected { .. } => Outcome::Rejected,
    }
}
