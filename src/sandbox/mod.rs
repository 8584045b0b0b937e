//! In-process issuers and resource servers on loopback, for tests. Not for production.
mod answer;
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
mod server;
mod tls;

pub use self::{
    answer::Answer,
    fault::Fault,
    psp::{AccessPspSandbox, AccessPspSandboxBuilder},
    record::{ApiRequest, MintedToken, Sale, Session, TokenRequest, Verdict},
    server::Protocols,
};
