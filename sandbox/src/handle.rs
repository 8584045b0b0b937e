//! Methods that control a running instance and read its records.

use std::{io, time::Duration};

use http::HeaderMap;

use super::{
    access_psp::AccessPspSandbox,
    fault::Fault,
    record::{ApiRequest, IssuerRequest, MintedToken, Sale, Session, Verdict},
    response::ScriptedResponse,
};

/// # Time
impl AccessPspSandbox {
    /// Moves the clock of the sandbox forward. All tokens age, without a wait.
    pub fn advance(&self, by: Duration) {
        self.ledger.advance(by);
    }
}

/// # Faults of the issuer
impl AccessPspSandbox {
    /// Sets the lifetime of later tokens. It is rounded up to whole seconds.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.issuer.pace.lock().lifetime = lifetime;
    }

    /// Sets how long the issuer waits before it processes a request.
    pub fn set_latency(&self, latency: Duration) {
        self.issuer.pace.lock().latency = latency;
    }

    /// Adds a fault to the queue. Each token request takes one fault, in the order of arrival.
    pub fn script(&self, fault: Fault) {
        self.issuer.script.push(fault);
    }

    /// Sets the fault of all token requests that come while the queue is empty.
    pub fn script_always(&self, fault: Fault) {
        self.issuer.script.always(fault);
    }

    /// Removes all faults, of the queue and of [`script_always`](Self::script_always).
    pub fn clear_script(&self) {
        self.issuer.script.clear();
    }

    /// Holds token requests, after they are read and before there is a response, until
    /// [`release_issuer`](Self::release_issuer).
    pub fn hold_issuer(&self) {
        self.issuer.gate.set_open(false);
    }

    /// Releases the held token requests. Later requests are not held.
    pub fn release_issuer(&self) {
        self.issuer.gate.set_open(true);
    }

    /// Waits until at least `count` token requests are held at the same time.
    pub async fn wait_issuer_held(&self, count: usize) {
        self.issuer.gate.wait_held(count).await;
    }
}

/// # Rejections by the API
impl AccessPspSandbox {
    /// Revokes every token minted so far.
    pub fn revoke_all(&self) {
        self.ledger.revoke_all();
    }

    /// Revokes one token. Returns `false` if there is no token with this `jti`.
    pub fn revoke(&self, jti: &str) -> bool {
        self.ledger.revoke(jti)
    }

    /// Sets whether every valid token is rejected. Default: `false`.
    pub fn reject_always(&self, reject: bool) {
        self.api.behavior.lock().reject_always = reject;
    }

    /// Rejects the next `count` requests that carry a valid token.
    pub fn reject_next(&self, count: usize) {
        self.api.behavior.lock().reject_next = count;
    }

    /// Sets the response to rejected requests. Default: [`ScriptedResponse::unauthorized`].
    pub fn reject_with(&self, response: ScriptedResponse) {
        self.api.behavior.lock().rejection = response;
    }

    /// Sets whether a token is rejected as soon as the head has been read, before the body arrives. Default: `false`.
    pub fn reject_early(&self, early: bool) {
        self.api.behavior.lock().reject_early = early;
    }

    /// Adds a response to the queue. Each request with an accepted token takes one response and has no other effect.
    pub fn script_api(&self, response: ScriptedResponse) {
        self.api.behavior.lock().script.push_back(response);
    }

    /// Sets how long the API waits before it checks a token.
    pub fn set_api_latency(&self, latency: Duration) {
        self.api.behavior.lock().latency = latency;
    }

    /// Holds API requests, after they are read and before their token is checked, until [`release`](Self::release).
    pub fn hold(&self) {
        self.api.arrivals.set_open(false);
    }

    /// Releases the held requests. Later requests are not held.
    pub fn release(&self) {
        self.api.arrivals.set_open(true);
    }

    /// Waits until [`hold`](Self::hold) holds at least `count` API requests at the same time.
    pub async fn wait_held(&self, count: usize) {
        self.api.arrivals.wait_held(count).await;
    }

    /// Holds finished API responses, after the token and the request were checked, until
    /// [`release_responses`](Self::release_responses).
    pub fn hold_responses(&self) {
        self.api.responses.set_open(false);
    }

    /// Releases the held responses. Later responses are not held.
    pub fn release_responses(&self) {
        self.api.responses.set_open(true);
    }

    /// Waits until [`hold_responses`](Self::hold_responses) holds at least `count` responses at the same time.
    pub async fn wait_responses_held(&self, count: usize) {
        self.api.responses.wait_held(count).await;
    }
}

/// # A resource server of your own
///
/// The API server of the sandbox has a few HTTP endpoints. For another protocol, for example gRPC, a test can start its own server
/// that accepts the tokens of this issuer.
impl AccessPspSandbox {
    /// Checks the token in these headers as the API server does, with [`reject_next`](Self::reject_next) and
    /// [`reject_always`](Self::reject_always). Nothing is recorded.
    pub fn judge(&self, headers: &HeaderMap) -> Verdict {
        self.api.judge(headers).0
    }

    /// A new certificate for `127.0.0.1` and `localhost`, and its key as PKCS#8, both PEM. The authority of
    /// [`ca_pem`](Self::ca_pem) signs it.
    ///
    /// # Errors
    ///
    /// The key could not be generated.
    pub fn server_identity_pem(&self) -> io::Result<(String, String)> {
        self.authority.server_identity()
    }
}

/// # Records
impl AccessPspSandbox {
    /// The requests that the issuer received, in the order of arrival.
    pub fn token_requests(&self) -> Vec<IssuerRequest> {
        self.issuer.journal.all()
    }

    /// The number of requests that the issuer received, with or without a response.
    pub fn token_request_count(&self) -> usize {
        self.issuer.journal.count()
    }

    /// Waits until the issuer has received `count` requests, with or without a response.
    pub async fn wait_token_requests(&self, count: usize) {
        self.issuer.journal.wait(count).await;
    }

    /// The tokens minted, in order. [`reset_records`](Self::reset_records) keeps them.
    pub fn tokens(&self) -> Vec<MintedToken> {
        self.ledger.tokens()
    }

    /// The requests that the API server received, in the order of arrival.
    pub fn api_requests(&self) -> Vec<ApiRequest> {
        self.api.journal.all()
    }

    /// The number of requests that the API server received, with or without a response.
    pub fn api_request_count(&self) -> usize {
        self.api.journal.count()
    }

    /// Waits until the API server has received `count` requests, with or without a response.
    pub async fn wait_api_requests(&self, count: usize) {
        self.api.journal.wait(count).await;
    }

    /// The wallet sessions created, in order.
    pub fn sessions(&self) -> Vec<Session> {
        self.api.sessions.all()
    }

    /// The sales made, in order.
    pub fn sales(&self) -> Vec<Sale> {
        self.api.sales.lock().clone()
    }

    /// The number of connections that the issuer accepted. A connection counts before its TLS handshake.
    pub fn issuer_connections(&self) -> usize {
        self.issuer_server.connections()
    }

    /// The number of connections that the API server accepted. A connection counts before its TLS handshake.
    pub fn api_connections(&self) -> usize {
        self.api_server.connections()
    }

    /// Removes the records of requests, sessions and sales, and resets the connection counts. Tokens and scripts stay.
    pub fn reset_records(&self) {
        self.issuer.journal.reset();
        self.api.journal.reset();
        self.api.sessions.reset();
        self.api.sales.lock().clear();
        self.issuer_server.reset_connections();
        self.api_server.reset_connections();
    }
}
