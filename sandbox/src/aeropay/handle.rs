//! Steering a running instance, and asking it what it saw.

use std::time::Duration;

use super::{AeropayCall, AeropaySandbox, AeropayTokenCall, tokens::Actor};
use crate::{fault::Fault, response::ScriptedResponse};

/// # Time
impl AeropaySandbox {
    /// Moves the sandbox's clock forward: ages every token, without waiting.
    pub fn advance(&self, by: Duration) {
        self.service.tokens.advance(by);
    }
}

/// # The token endpoints' faults
impl AeropaySandbox {
    /// Sets the lifetime of the tokens to come, in whole seconds, rounded up.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.service.mood.lock().lifetime = lifetime;
    }

    /// Sets how long a token endpoint waits before it looks at a request.
    pub fn set_latency(&self, latency: Duration) {
        self.service.mood.lock().latency = latency;
    }

    /// Adds a fault to the queue: each token request takes one, in order of arrival. [`Fault::ExpiresIn`] is the `TTL`,
    /// [`Fault::AccessToken`] the `token`; [`Fault::TokenType`] changes nothing.
    pub fn script(&self, fault: Fault) {
        self.service.script.push(fault);
    }

    /// Sets the fault of every token request that finds the queue empty.
    pub fn script_always(&self, fault: Fault) {
        self.service.script.always(fault);
    }

    /// Forgets all faults, queued and standing.
    pub fn clear_script(&self) {
        self.service.script.clear();
    }

    /// Holds token requests, read but unanswered, until [`release_issuer`](Self::release_issuer).
    pub fn hold_issuer(&self) {
        self.service.issuer_gate.set_open(false);
    }

    /// Lets the held token requests go on, and those to come.
    pub fn release_issuer(&self) {
        self.service.issuer_gate.set_open(true);
    }

    /// Waits until at least `count` token requests are held at the same time.
    pub async fn wait_issuer_held(&self, count: usize) {
        self.service.issuer_gate.wait_held(count).await;
    }
}

/// # The API's refusals
impl AeropaySandbox {
    /// Refuses, from now on, every token minted so far.
    pub fn revoke_all(&self) {
        self.service.tokens.revoke(|_, _| true);
    }

    /// Refuses one token, from now on; `false` if there is none of this name.
    pub fn revoke(&self, jti: &str) -> bool {
        self.service.tokens.revoke(|name, _| name == jti) > 0
    }

    /// Refuses, from now on, every token minted so far for this user.
    pub fn revoke_user(&self, user: &str) {
        self.service.tokens.revoke(|_, actor| *actor == Actor::User(user.to_owned()));
    }

    /// Refuses every token, good or not, as long as this is set.
    pub fn reject_always(&self, refuse: bool) {
        self.service.mood.lock().reject_always = refuse;
    }

    /// Refuses the next `count` requests whose tokens are good: with `AP007`, inside of a 200 in version 1 and with a 401 in
    /// version 2, or with what [`reject_with`](Self::reject_with) says.
    pub fn reject_next(&self, count: usize) {
        self.service.mood.lock().reject_next = count;
    }

    /// Sets the answer that requests refused by the test get.
    pub fn reject_with(&self, answer: ScriptedResponse) {
        self.service.mood.lock().refusal = Some(answer);
    }

    /// Adds an answer to the queue: each request whose token was accepted takes one, and has no other effect.
    pub fn script_api(&self, answer: ScriptedResponse) {
        self.service.mood.lock().script.push_back(answer);
    }

    /// Holds API requests, read in full and before their token is looked at, until [`release`](Self::release).
    pub fn hold(&self) {
        self.service.api_gate.set_open(false);
    }

    /// Lets the held requests go on, and those to come.
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
    /// Every request that reached a token endpoint, in order of arrival.
    pub fn token_calls(&self) -> Vec<AeropayTokenCall> {
        self.service.token_calls.all()
    }

    /// How many requests reached a token endpoint, answered or not.
    pub fn token_call_count(&self) -> usize {
        self.service.token_calls.count()
    }

    /// Waits until `count` requests have reached a token endpoint, answered or not.
    pub async fn wait_token_calls(&self, count: usize) {
        self.service.token_calls.wait(count).await;
    }

    /// Every request that reached the API, in order of arrival.
    pub fn calls(&self) -> Vec<AeropayCall> {
        self.service.calls.all()
    }

    /// How many requests reached the API, answered or not.
    pub fn call_count(&self) -> usize {
        self.service.calls.count()
    }

    /// The ids of all transactions that were made, in order; a repeated idempotency key makes no second one.
    pub fn transactions(&self) -> Vec<String> {
        self.service.people.transactions()
    }

    /// How many connections the server accepted, before any TLS handshake.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Forgets requests and connection counts; tokens, users and scripts stay.
    pub fn reset_records(&self) {
        self.service.token_calls.reset();
        self.service.calls.reset();
        self.server.forget_connections();
    }
}
