//! Methods that control a running instance and read its records.

use std::time::Duration;

use super::{AeropayApiRequest, AeropayIssuerRequest, AeropaySandbox, tokens::Actor};
use crate::{fault::Fault, response::ScriptedResponse};

/// # Time
impl AeropaySandbox {
    /// Moves the clock of the sandbox forward. All tokens age, without a wait.
    pub fn advance(&self, by: Duration) {
        self.service.tokens.advance(by);
    }
}

/// # Faults of the token endpoints
impl AeropaySandbox {
    /// Sets the lifetime of later tokens. It is rounded up to whole seconds.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.service.behavior.lock().lifetime = lifetime;
    }

    /// Sets how long a token endpoint waits before it processes a request.
    pub fn set_latency(&self, latency: Duration) {
        self.service.behavior.lock().latency = latency;
    }

    /// Adds a fault to the queue. Each token request takes one fault, in the order of arrival.
    ///
    /// [`Fault::ExpiresIn`] changes the `TTL`, [`Fault::AccessToken`] changes the `token`, and [`Fault::TokenType`] changes nothing.
    pub fn script(&self, fault: Fault) {
        self.service.script.push(fault);
    }

    /// Sets the fault of all token requests that come while the queue is empty.
    pub fn script_always(&self, fault: Fault) {
        self.service.script.always(fault);
    }

    /// Removes all faults, of the queue and of [`script_always`](Self::script_always).
    pub fn clear_script(&self) {
        self.service.script.clear();
    }

    /// Holds token requests, after they are read and before there is a response, until
    /// [`release_issuer`](Self::release_issuer).
    pub fn hold_issuer(&self) {
        self.service.issuer_gate.set_open(false);
    }

    /// Releases the held token requests. Later requests are not held.
    pub fn release_issuer(&self) {
        self.service.issuer_gate.set_open(true);
    }

    /// Waits until at least `count` token requests are held at the same time.
    pub async fn wait_issuer_held(&self, count: usize) {
        self.service.issuer_gate.wait_held(count).await;
    }
}

/// # Rejections by the API
impl AeropaySandbox {
    /// Revokes every token minted so far.
    pub fn revoke_all(&self) {
        self.service.tokens.revoke(|_, _| true);
    }

    /// Revokes one token. Returns `false` if there is no token with this `jti`.
    pub fn revoke(&self, jti: &str) -> bool {
        self.service.tokens.revoke(|name, _| name == jti) > 0
    }

    /// Revokes every token minted so far for this user.
    pub fn revoke_user(&self, user: &str) {
        self.service.tokens.revoke(|_, actor| *actor == Actor::User(user.to_owned()));
    }

    /// Sets whether every valid token is rejected. Default: `false`.
    pub fn reject_always(&self, reject: bool) {
        self.service.behavior.lock().reject_always = reject;
    }

    /// Rejects the next `count` requests that carry a valid token.
    ///
    /// The response is an `AP007`, in a 200 in version 1 and in a 401 in version 2, or the response of
    /// [`reject_with`](Self::reject_with).
    pub fn reject_next(&self, count: usize) {
        self.service.behavior.lock().reject_next = count;
    }

    /// Sets the response to requests that the test rejects.
    pub fn reject_with(&self, response: ScriptedResponse) {
        self.service.behavior.lock().rejection = Some(response);
    }

    /// Adds a response to the queue. Each request with an accepted token takes one response and has no other effect.
    pub fn script_api(&self, response: ScriptedResponse) {
        self.service.behavior.lock().script.push_back(response);
    }

    /// Holds API requests, after they are read and before their token is checked, until [`release`](Self::release).
    pub fn hold(&self) {
        self.service.api_gate.set_open(false);
    }

    /// Releases the held requests. Later requests are not held.
    pub fn release(&self) {
        self.service.api_gate.set_open(true);
    }

    /// Waits until at least `count` API requests are held at the same time.
    pub async fn wait_held(&self, count: usize) {
        self.service.api_gate.wait_held(count).await;
    }
}

/// # Records
impl AeropaySandbox {
    /// The requests that the token endpoints received, in the order of arrival.
    pub fn token_requests(&self) -> Vec<AeropayIssuerRequest> {
        self.service.token_calls.all()
    }

    /// The number of requests that the token endpoints received, with or without a response.
    pub fn token_request_count(&self) -> usize {
        self.service.token_calls.count()
    }

    /// Waits until the token endpoints have received `count` requests, with or without a response.
    pub async fn wait_token_requests(&self, count: usize) {
        self.service.token_calls.wait(count).await;
    }

    /// The requests that the API received, in the order of arrival.
    pub fn api_requests(&self) -> Vec<AeropayApiRequest> {
        self.service.calls.all()
    }

    /// The number of requests that the API received, with or without a response.
    pub fn api_request_count(&self) -> usize {
        self.service.calls.count()
    }

    /// The ids of all transactions, in order. A repeated idempotency key makes no second transaction.
    pub fn transactions(&self) -> Vec<String> {
        self.service.merchant.transactions()
    }

    /// The number of connections that the server accepted. A connection counts before its TLS handshake.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Removes the records of requests and resets the connection counts. Tokens, users and scripts stay.
    pub fn reset_records(&self) {
        self.service.token_calls.reset();
        self.service.calls.reset();
        self.server.reset_connections();
    }
}
