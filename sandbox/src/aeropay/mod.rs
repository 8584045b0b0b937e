//! A local Aeropay: the token endpoints and the API of both versions on one port.

mod api;
mod handle;
mod merchant;
mod record;
mod responses;
mod scopes;
mod start;
mod token;
mod tokens;

pub use self::{
    record::{AeropayApiRequest, AeropayIssuerRequest},
    start::{AeropaySandbox, AeropaySandboxBuilder},
};

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::Request;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::sleep;

use self::{merchant::Merchant, tokens::Tokens};
use super::{
    fault::Script,
    gate::Gate,
    journal::Journal,
    response::ScriptedResponse,
    server::{Handler, Reply},
};

/// The API version of a path.
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

/// The credentials that the sandbox accepts. They are random, and no `Debug` output contains them.
struct Credentials {
    api_key: String,
    api_secret: String,
    merchant: u64,
}

/// The state of the server.
struct Service {
    credentials: Credentials,
    tokens: Tokens,
    merchant: Merchant,
    token_calls: Journal<AeropayIssuerRequest>,
    calls: Journal<AeropayApiRequest>,
    script: Script,
    issuer_gate: Gate,
    api_gate: Gate,
    behavior: Mutex<Behavior>,
}

/// What a test can change while the server runs.
struct Behavior {
    lifetime: Duration,
    latency: Duration,
    reject_next: usize,
    reject_always: bool,
    rejection: Option<ScriptedResponse>,
    script: VecDeque<ScriptedResponse>,
}

impl Handler for Service {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let version = Version::of(head.uri.path());
        if matches!(head.uri.path(), "/token" | "/v2/token") {
            return self.token(version, &head, body).await;
        }
        Reply::Response(self.api(version, &head, body).await.into_response())
    }
}

impl Service {
    async fn wait_latency(&self) {
        let latency = self.behavior.lock().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
    }
}
