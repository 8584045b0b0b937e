//! A token call and a request over TLS, under every choice of cryptography that this build has.
//!
//! ```sh
//! tls-providers none|poisoned|ring|aws-lc-rs
//! ```
//!
//! The argument is what the process has for a default: nothing, a provider that can do nothing, or a working one. It must
//! make no difference, and it must be the same afterwards. `scripts/full tls` runs all of them, in a build of the crate with
//! ring, in one with aws-lc-rs, in one with both, where rustls itself refuses to choose, and in one with neither, under an
//! application that has aws-lc-rs of its own.

mod issuer;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{AccessPsp, AccessPspBuilder, BearerAuthLayer, BoxError, Error, ErrorKind};

use crate::issuer::Issuer;

#[cfg(not(any(feature = "ring", feature = "of-its-own")))]
compile_error!("choose `ring`, `aws-lc-rs`, both, or `of-its-own`");

const BOTH: bool = cfg!(all(feature = "ring", feature = "of-its-own"));

const COMPILED_IN: &str = match (cfg!(feature = "ring"), cfg!(feature = "aws-lc-rs")) {
    (true, true) => "ring and aws-lc-rs",
    (true, false) => "ring",
    (false, true) => "aws-lc-rs",
    (false, false) => "neither",
};

/// The providers that the program can name, with what tells them apart at the other end.
fn providers() -> Vec<(&'static str, CryptoProvider, bool)> {
    vec![
        #[cfg(feature = "of-its-own")]
        ("aws-lc-rs", rustls::crypto::aws_lc_rs::default_provider(), true),
        #[cfg(feature = "ring")]
        ("ring", rustls::crypto::aws_lc_rs::default_provider(), false),
    ]
}

fn any_provider() -> Result<CryptoProvider, BoxError> {
    Ok(providers().pop().ok_or("this build has no provider")?.1)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let default = std::env::args().nth(1).unwrap_or_default();
    let provider = match default.as_str() {
        "none" => None,
        "poisoned" => Some(CryptoProvider { cipher_suites: vec![], kx_groups: vec![], ..any_provider()? }),
        name => {
            let found = providers().into_iter().find(|(known, ..)| *known == name);
            Some(found.ok_or("usage: tls-providers none|poisoned|ring|aws-lc-rs (a provider that this build has)")?.1)
        }
    };
    if let Some(provider) = provider {
        provider.install_default().map_err(|_| "there was a default before")?;
    }
    let before = CryptoProvider::get_default().map(Arc::as_ptr);

    let issuer = Issuer::start(any_provider()?).await?;
    let trusting = || HttpClient::builder().roots_pem(&issuer.ca_pem);
    let mut cases = vec![];
    for (name, provider, hybrid) in providers() {
        cases.push((format!("a configuration that names {name}"), whole(&issuer, provider)?, hybrid));
    }
    if cfg!(feature = "ring") {
        cases.push(("ring, which is there without asking".to_owned(), trusting(), false));
    } else if cfg!(feature = "aws-lc-rs") {
        cases.push(("aws-lc-rs, which is there without asking".to_owned(), trusting(), true));
    }
    #[cfg(feature = "aws-lc-rs")]
    cases.push(("aws-lc-rs, asked for".to_owned(), trusting().aws_lc_rs(), true));
    for (what, client, hybrid) in cases {
        works(&issuer, client.build()?, hybrid).await.map_err(|error| format!("{what}: {error}"))?;
        println!("{COMPILED_IN} compiled in, process default {default}: {what}: works");
    }
    if cfg!(not(any(feature = "ring", feature = "aws-lc-rs"))) {
        for (what, refusal) in [
            ("a client", HttpClient::new().err()),
            ("a client with roots of its own", trusting().build().err()),
            ("a provider without a client", settings(&issuer).build().err()),
        ] {
            says_what_to_do(refusal).map_err(|error| format!("{what}: {error}"))?;
            println!("{COMPILED_IN} compiled in, process default {default}: {what}: says what to do");
        }
    }
    if CryptoProvider::get_default().map(Arc::as_ptr) != before {
        return Err("the process default has changed".into());
    }
    if default == "none" {
        rustls_alone()?;
    }
    Ok(())
}

/// That this build is what it is meant to be: by itself rustls takes the one provider there is, and panics where there are two.
fn rustls_alone() -> Result<(), BoxError> {
    std::panic::set_hook(Box::new(|_| {}));
    let panics = std::panic::catch_unwind(ClientConfig::builder).is_err();
    println!("rustls' own `ClientConfig::builder()` panics here: {panics}");
    if panics == BOTH { Ok(()) } else { Err("this build has not the providers that it should".into()) }
}

fn says_what_to_do(refusal: Option<Error>) -> Result<(), BoxError> {
    let error = refusal.ok_or("it was made")?;
    let hint = error.hint().unwrap_or_default();
    let said = ["`ring`", "`aws-lc-rs`", "`rustls_config`"].iter().all(|way| hint.contains(way));
    if error.kind() == ErrorKind::Config && said { Ok(()) } else { Err(format!("{error:?}").into()) }
}

fn whole(issuer: &Issuer, provider: CryptoProvider) -> Result<HttpClientBuilder, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(issuer.ca_pem.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpClient::builder().rustls_config(config))
}

fn settings(issuer: &Issuer) -> AccessPspBuilder {
    AccessPsp::builder()
        .client_id("tls-providers")
        .client_secret("tls-providers")
        .environment("loopback")
        .token_url(format!("{}/token", issuer.origin))
        .api_origin(&issuer.origin)
}

/// One request through the layer, both the token call and the request over `client`.
async fn works(issuer: &Issuer, client: HttpClient, hybrid: bool) -> Result<(), BoxError> {
    let provider = settings(issuer).http_client(client.clone()).build()?;
    let request = Request::get(format!("{}/echo", issuer.origin)).body(Full::<Bytes>::default())?;
    let status = BearerAuthLayer::new(provider).layer(client).oneshot(request).await?.status();
    let counted = issuer.count();
    let by_whom = if hybrid { counted.connections } else { 0 };
    let right = (status.as_u16(), counted.tokens, counted.requests, counted.hybrid) == (200, 1, 1, by_whom);
    if right { Ok(()) } else { Err(format!("{status}: {counted:?}").into()) }
}
