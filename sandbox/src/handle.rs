//! Steering a running instance, and asking it what it saw.

use std::{io, time::Duration};

use http::HeaderMap;

use super::{
    fault::Fault,
    psp::AccessPspSandbox,
    record::{ApiRequest, IssuerRequest, MintedToken, Sale, Session, Verdict},
    response::ScriptedResponse,
};

/// # Time
impl AccessPspSandbox {
    /// Moves the sandbox's clock forward: ages every token, without waiting.
    pub fn advance(&self, by: Duration) {
        self.ledger.advance(by);
    }
}

/// # The issuer's faults
impl AccessPspSandbox {
    /// Sets the lifetime of the tokens to come, in whole seconds, rounded up.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.issuer.pace.lock().lifetime = lifetime;
    }

    /// Sets how long the issuer waits before it looks at a request.
    pub fn set_latency(&self, latency: Duration) {
        self.issuer.pace.lock().latency = latency;
    }

    /// Adds a fault to the queue: each token request takes one, in order of arrival.
    pub fn script(&self, fault: Fault) {
        self.issuer.script.push(fault);
    }

    /// Sets the fault of every request that finds the queue empty.
    pub fn script_always(&self, fault: Fault) {
        self.issuer.script.always(fault);
    }

    /// Forgets all faults, queued and standing.
    pub fn clear_script(&self) {
        self.issuer.script.clear();
    }

    /// Holds token requests, read but unanswered, until [`release_issuer`](Self::release_issuer).
    pub fn hold_issuer(&self) {
        self.issuer.gate.set_open(false);
    }

    /// Lets the held token requests go on, and those to come.
    pub fn release_issuer(&self) {
        self.issuer.gate.set_open(true);
    }

    /// Waits until at least `count` token requests are held at the same time.
    pub async fn wait_issuer_held(&self, count: usize) {
        self.issuer.gate.wait_held(count).await;
    }
}

/// # The API's refusals
impl AccessPspSandbox {
    /// Refuses, from now on, every token minted so far.
    pub fn revoke_all(&self) {
        self.ledger.revoke_all();
    }

    /// Refuses one token, from now on; `false` if there is none of this name.
    pub fn revoke(&self, jti: &str) -> bool {
        self.ledger.revoke(jti)
    }

    /// Refuses every token, good or not, as long as this is set.
    pub fn reject_always(&self, refuse: bool) {
        self.api.mood.lock().reject_always = refuse;
    }

    /// Refuses the next `count` requests whose tokens are good.
    pub fn reject_next(&self, count: usize) {
        self.api.mood.lock().reject_next = count;
    }

    /// Sets the answer that refused requests get. Default: [`ScriptedResponse::unauthorized`].
    pub fn reject_with(&self, answer: ScriptedResponse) {
        self.api.mood.lock().refusal = answer;
    }

    /// Refuses as soon as the head is read, while the body is still coming. Default: off.
    pub fn reject_early(&self, early: bool) {
        self.api.mood.lock().reject_early = early;
    }

    /// Adds an answer to the queue: each request whose token was accepted takes one, and has no
    /// other effect.
    pub fn script_api(&self, answer: ScriptedResponse) {
        self.api.mood.lock().script.push_back(answer);
    }

    /// Sets how long the API waits before it looks at a request's token.
    pub fn set_api_latency(&self, latency: Duration) {
        self.api.mood.lock().latency = latency;
    }

    /// Holds API requests, read in full and before their token is looked at, until
    /// [`release`](Self::release).
    pub fn hold(&self) {
        self.api.arrivals.set_open(false);
    }

    /// Lets the held requests go on, and those to come.
    pub fn release(&self) {
        self.api.arrivals.set_open(true);
    }

    /// Waits until at least `count` API requests are held by [`hold`](Self::hold) at the same
    /// time.
    pub async fn wait_held(&self, count: usize) {
        self.api.arrivals.wait_held(count).await;
    }

    /// Holds finished answers, after token and request were judged, until
    /// [`release_responses`](Self::release_responses).
    pub fn hold_responses(&self) {
        self.api.answers.set_open(false);
    }

    /// Lets the held answers go out, and those to come.
    pub fn release_responses(&self) {
        self.api.answers.set_open(true);
    }

    /// Waits until at least `count` answers are held by [`hold_responses`](Self::hold_responses) at
    /// the same time.
    pub async fn wait_responses_held(&self, count: usize) {
        self.api.answers.wait_held(count).await;
    }
}

/// # A resource server of your own
///
/// For what the API server here does not speak, gRPC for instance: a server in your test that takes the tokens of this
/// issuer.
impl AccessPspSandbox {
    /// What the API server would think of these headers' token, now. Nothing is recorded.
    pub fn judge(&self, headers: &HeaderMap) -> Verdict {
        self.ledger.judge(headers).0
    }

    /// A certificate for `127.0.0.1` and `localhost` by the authority of [`ca_pem`](Self::ca_pem), and its key as
    /// PKCS#8; both PEM, and new at each call.
    ///
    /// # Errors
    ///
    /// The key could not be made.
    pub fn server_identity_pem(&self) -> io::Result<(String, String)> {
        self.authority.server_identity()
    }
}

/// # Records
impl AccessPspSandbox {
    /// Every request that reached the issuer, in order of arrival.
    pub fn token_requests(&self) -> Vec<IssuerRequest> {
        self.issuer.journal.all()
    }

    /// How many requests reached the issuer, answered or not.
    pub fn token_request_count(&self) -> usize {
        self.issuer.journal.count()
    }

    /// Waits until `count` requests have reached the issuer, answered or not.
    pub async fn wait_token_requests(&self, count: usize) {
        self.issuer.journal.wait(count).await;
    }

    /// Every token minted, in order. Not touched by [`reset_records`](Self::reset_records).
    pub fn tokens(&self) -> Vec<MintedToken> {
        self.ledger.tokens()
    }

    /// Every request that reached the API server, in order of arrival.
    pub fn api_requests(&self) -> Vec<ApiRequest> {
        self.api.journal.all()
    }

    /// How many requests reached the API server, answered or not.
    pub fn api_request_count(&self) -> usize {
        self.api.journal.count()
    }

    /// Waits until `count` requests have reached the API server, answered or not.
    pub async fn wait_api_requests(&self, count: usize) {
        self.api.journal.wait(count).await;
    }

    /// Every wallet session created, in order.
    pub fn sessions(&self) -> Vec<Session> {
        self.api.sessions.all()
    }

    /// Every sale made, in order.
    pub fn sales(&self) -> Vec<Sale> {
        self.api.sales.lock().clone()
    }

    /// How many connections the issuer accepted, before any TLS handshake.
    pub fn issuer_connections(&self) -> usize {
        self.issuer_server.connections()
    }

    /// How many connections the API server accepted, before any TLS handshake.
    pub fn api_connections(&self) -> usize {
        self.api_server.connections()
    }

    /// Forgets requests, sessions, sales and connection counts; tokens and scripts stay.
    pub fn reset_records(&self) {
        self.issuer.journal.reset();
        self.api.journal.reset();
        self.api.sessions.reset();
        self.api.sales.lock().clear();
        self.issuer_server.forget_connections();
        self.api_server.forget_connections();
    }
}
