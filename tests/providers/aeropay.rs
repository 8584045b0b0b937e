//! Aeropay: which token a request gets, the token request, and what the responses of the issuer and of the API mean.

mod against_sandbox;
mod fake;
mod idempotency;
mod rejections;
mod scopes;
mod settings;
mod token_call;
