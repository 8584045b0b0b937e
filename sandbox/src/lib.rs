#![doc = include_str!("../README.md")]

mod access_psp;
mod aeropay;
mod api;
mod credentials;
mod fault;
mod gate;
mod handle;
mod issuer;
mod journal;
mod jwt;
mod ledger;
mod record;
mod recorder;
mod request;
mod response;
mod server;
mod time;
mod tls;

pub use self::{
    access_psp::{AccessPspSandbox, AccessPspSandboxBuilder},
    aeropay::{AeropayApiRequest, AeropayIssuerRequest, AeropaySandbox, AeropaySandboxBuilder},
    fault::Fault,
    record::{ApiRequest, IssuerRequest, MintedToken, Sale, Session, Verdict},
    recorder::Recorder,
    response::ScriptedResponse,
    server::Protocols,
};
