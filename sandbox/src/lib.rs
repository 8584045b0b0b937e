//! In-process servers that stand in for a provider, for your own tests. Not for production.
//! [The guide](https://docs.rs/tower-bearer-auth/latest/tower_bearer_auth/guide/testing/index.html) shows how to use them.
//!
//! [`AccessPspSandbox`] is an AccessPSP of your own: an issuer and an API server on two ports of
//! 127.0.0.1, over TLS by an authority that is made at start and forgotten at the end. Start one
//! for each test; credentials and keys are random. It never listens beyond loopback.
//!
//! ```
//! use http::Request;
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower_bearer_auth_sandbox::AccessPspSandbox;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sandbox = AccessPspSandbox::builder().plain_http().start().await?;
//!
//! let form = form_urlencoded::Serializer::new(String::new())
//!     .append_pair("grant_type", "client_credentials")
//!     .append_pair("client_id", sandbox.client_id())
//!     .append_pair("client_secret", sandbox.client_secret())
//!     .finish();
//! let request = Request::post(sandbox.token_url())
//!     .header("content-type", "application/x-www-form-urlencoded")
//!     .body(Full::<bytes::Bytes>::from(form))?;
//! let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
//!
//! assert_eq!(answer.status(), 200);
//! assert_eq!(sandbox.token_request_count(), 1); // counted at the server, not at the client
//! # Ok(())
//! # }
//! ```
//!
//! # What it checks
//!
//! It is stricter than the real service may be, so that a client that passes here sends nothing
//! but what is documented.
//!
//! | request | answered |
//! | --- | --- |
//! | `POST /oauth/token`, a form with `grant_type`, `client_id`, `client_secret` once each | 200, a JWT signed with ES256 |
//! | the same with a field missing, repeated, empty or unknown, a `scope` that nobody allowed, another content type, a query or an `Authorization` header | 400 `invalid_request` |
//! | the same with wrong credentials | 401 `invalid_client` |
//! | `POST /wallets/wsps/sessions`, a JSON object | 201 `{sessionId, sessionKey}` |
//! | `GET /wallets/wsps/sessions/{sessionId}` | 200, or 404 |
//! | `POST /uc/v1/wallet/sale`, a JSON object, with `x-api-key`, `accept` and an `idempotency-key` that is a UUID | 200 `{pspReference}`, the same one for the same key |
//! | the same without its key | 403 |
//! | the same with a field missing or malformed | 400 with Aera's `responseInfo` |
//! | any method on `/echo` | 200 and what arrived |
//! | any of the API's with a token that is not [accepted](Verdict::Accepted) | 401, or what [`reject_with`](AccessPspSandbox::reject_with) says |
//!
//! Where the provider's pages name no status (a wrong content type at the API: 415; an unknown
//! path: 404; another method: 405) HTTP's own is used.
//!
//! [`AeropaySandbox`] is an Aeropay of your own, in both versions; its page says what it checks.
//!
//! # What it does on demand
//!
//! [`advance`](AccessPspSandbox::advance) ages tokens without waiting.
//! [`script`](AccessPspSandbox::script) makes the issuer fail in one of many ways ([`Fault`]).
//! [`revoke_all`](AccessPspSandbox::revoke_all) and its kin make the API refuse, and
//! [`hold`](AccessPspSandbox::hold) keeps requests in flight while that happens. A
//! [`Recorder`] is a foreign server that keeps every byte.
//!
//! What its API server does not speak, gRPC for instance, a server of your own can:
//! [`judge`](AccessPspSandbox::judge) tells it what to think of a token, and
//! [`server_identity_pem`](AccessPspSandbox::server_identity_pem) gives it a certificate.
//!
//! Everything seen is recorded at the server, from the moment a request's head is read:
//! [`token_requests`](AccessPspSandbox::token_requests),
//! [`api_requests`](AccessPspSandbox::api_requests), and what can be waited for without sleeping
//! begins with `wait_`. The waits have no deadline of their own. Records hold secrets in full;
//! their `Debug` forms do not.

mod aeropay;
mod api;
mod body;
mod credentials;
mod fault;
mod gate;
mod handle;
mod issuer;
mod journal;
mod jwt;
mod ledger;
mod psp;
mod record;
mod recorder;
mod response;
mod server;
mod time;
mod tls;

pub use self::{
    aeropay::{AeropayCall, AeropaySandbox, AeropaySandboxBuilder, AeropayTokenCall},
    fault::Fault,
    psp::{AccessPspSandbox, AccessPspSandboxBuilder},
    record::{ApiRequest, IssuerRequest, MintedToken, Sale, Session, Verdict},
    recorder::Recorder,
    response::ScriptedResponse,
    server::Protocols,
};
