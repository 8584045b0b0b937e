//! An Aeropay of your own: the token endpoint and the API of both versions on one port, as the real one has them.

mod api;
mod handle;
mod people;
mod record;
mod responses;
mod scopes;
mod start;
mod token;
mod tokens;

pub use self::{
    record::{AeropayCall, AeropayTokenCall},
    start::{AeropaySandbox, AeropaySandboxBuilder},
};

use std::{sync::Arc, time::Duration};

use http::Request;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::sleep;

use self::{people::People, tokens::Tokens};
use super::{
    fault::Script,
    gate::Gate,
    journal::Journal,
    response::ScriptedResponse,
    server::{Handler, Reply},
};

/// Which version a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn of(path: &str) -> Self {
        if path == "/v2" || path.starts_with("/v2/") { Self::Two } else { Self::One }
    }
}

/// What the sandbox lets in; made at random, shown by no `Debug`.
struct Credentials {
    api_key: String,
    api_secret: String,
    merchant: u64,
}

/// The one server.
struct Service {
    credentials: Credentials,
    tokens: Tokens,
    people: People,
    token_calls: Journal<AeropayTokenCall>,
    calls: Journal<AeropayCall>,
    script: Script,
    issuer_gate: Gate,
    api_gate: Gate,
    mood: Mutex<Mood>,
}

/// What a test may change while the server runs.
struct Mood {
    lifetime: Duration,
    latency: Duration,
    reject_next: usize,
    reject_always: bool,
    refusal: Option<ScriptedResponse>,
    script: std::collections::VecDeque<ScriptedResponse>,
}

impl Handler for Service {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let version = Version::of(head.uri.path());
        if matches!(head.uri.path(), "/token" | "/v2/token") {
            return self.token(version, &head, body).await;
        }
        Reply::ScriptedResponse(self.api(version, &head, body).await.into_response())
    }
}

impl Service {
    async fn pause(&self) {
        let latency = self.mood.lock().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
    }
}
