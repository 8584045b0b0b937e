//! A token request and an API request over TLS, with each `CryptoProvider` that this build has.
//!
//! ```sh
//! tls-providers none|unusable|ring|aws-lc-rs
//! ```
//!
//! The argument is the default provider of the process: none, one that supports no TLS version, or a working one. The
//! client must use the default if there is one, else aws-lc-rs, else ring. It must not change the default.
//! `scripts/full tls` runs all combinations: the crate with ring, with aws-lc-rs, with both (where rustls itself
//! panics), and with neither in an application that has aws-lc-rs itself.

mod issuer;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{
    AccessPsp, AccessPspBuilder, BearerAuthLayer, BoxError, ConfigError, ErrorKind, FetchContext, TokenProvider, replay,
};

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

/// A provider, and whether its connections offer X25519MLKEM768.
struct Provider {
    name: &'static str,
    provider: CryptoProvider,
    hybrid: bool,
}

/// The providers that this program can name.
fn providers() -> Vec<Provider> {
    vec![
        #[cfg(feature = "of-its-own")]
        Provider { name: "aws-lc-rs", provider: rustls::crypto::aws_lc_rs::default_provider(), hybrid: true },
        #[cfg(feature = "ring")]
        Provider { name: "ring", provider: rustls::crypto::ring::default_provider(), hybrid: false },
    ]
}

fn any_provider() -> Result<CryptoProvider, BoxError> {
    Ok(providers().pop().ok_or("this build has no provider")?.provider)
}

/// What a client without a rustls configuration must do.
enum Expected {
    /// It works, and offers X25519MLKEM768 or not.
    Works { hybrid: bool },
    /// Its builder returns an error that contains these words.
    Fails(&'static [&'static str]),
}

fn expected(default: &str) -> Result<Expected, BoxError> {
    Ok(match default {
        "none" if cfg!(feature = "aws-lc-rs") => Expected::Works { hybrid: true },
        "none" if cfg!(feature = "ring") => Expected::Works { hybrid: false },
        "none" => Expected::Fails(&["`aws-lc-rs`", "`ring`", "`CryptoProvider`", "`rustls_config`"]),
        "unusable" => Expected::Fails(&["supports no TLS version"]),
        name => {
            let found = providers().into_iter().find(|known| known.name == name);
            Expected::Works { hybrid: found.ok_or("this build does not have the provider")?.hybrid }
        }
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let default = std::env::args().nth(1).ok_or("usage: tls-providers none|unusable|ring|aws-lc-rs")?;
    let provider = match default.as_str() {
        "none" => None,
        "unusable" => Some(CryptoProvider { cipher_suites: vec![], kx_groups: vec![], ..any_provider()? }),
        name => Some(providers().into_iter().find(|known| known.name == name).ok_or("an unknown provider")?.provider),
    };
    if let Some(provider) = provider {
        provider.install_default().map_err(|_| "there was a default before")?;
    }
    let before = CryptoProvider::get_default().map(Arc::as_ptr);

    let issuer = Issuer::start(any_provider()?).await?;
    let trusting = || HttpClient::builder().roots_pem(&issuer.ca_pem);
    for Provider { name, provider, hybrid } in providers() {
        let client = configured(&issuer, provider)?.build()?;
        works(&issuer, client, hybrid).await.map_err(|error| format!("{name}: {error}"))?;
        println!("{COMPILED_IN} compiled in, default {default}: a configuration with {name}: works");
    }
    let mut failures = Vec::new();
    for Provider { name, provider, .. } in providers() {
        let failure = untrusted(&issuer, provider).await.map_err(|error| format!("{name}: {error}"))?;
        println!("{COMPILED_IN} compiled in, default {default}: no root certificate with {name}: {failure}");
        failures.push(failure);
    }
    if failures.iter().any(|failure| *failure != failures[0]) {
        return Err("the error depends on the provider".into());
    }
    match expected(&default)? {
        Expected::Works { hybrid } => {
            works(&issuer, trusting().build()?, hybrid).await?;
            println!("{COMPILED_IN} compiled in, default {default}: a client without a configuration: works");
        }
        Expected::Fails(words) => {
            for (what, error) in [
                ("a client", HttpClient::new().err()),
                ("a client with root certificates", trusting().build().err()),
                ("a provider without a client", settings(&issuer).build().err()),
            ] {
                is_clear(error, words).map_err(|error| format!("{what}: {error}"))?;
                println!("{COMPILED_IN} compiled in, default {default}: {what}: a clear error");
            }
        }
    }
    if CryptoProvider::get_default().map(Arc::as_ptr) != before {
        return Err("the default of the process has changed".into());
    }
    if default == "none" {
        rustls_alone()?;
    }
    Ok(())
}

/// Checks that this build has the intended providers: rustls itself uses the only provider, and panics if there are
/// two.
fn rustls_alone() -> Result<(), BoxError> {
    std::panic::set_hook(Box::new(|_| {}));
    let panics = std::panic::catch_unwind(ClientConfig::builder).is_err();
    println!("rustls' own `ClientConfig::builder()` panics here: {panics}");
    if panics == BOTH { Ok(()) } else { Err("this build does not have the intended providers".into()) }
}

fn is_clear(error: Option<ConfigError>, words: &[&str]) -> Result<(), BoxError> {
    let error = error.ok_or("it was built")?;
    let shown = error.to_string();
    let names_setting = error.setting() == "http_client";
    if names_setting && words.iter().all(|word| shown.contains(word)) { Ok(()) } else { Err(shown.into()) }
}

fn configured(issuer: &Issuer, provider: CryptoProvider) -> Result<HttpClientBuilder, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(issuer.ca_pem.as_bytes())?)?;
    with_roots(roots, provider)
}

/// The error of a client that trusts no authority. It is a permanent failure of TLS.
async fn untrusted(issuer: &Issuer, provider: CryptoProvider) -> Result<String, BoxError> {
    let client = with_roots(RootCertStore::empty(), provider)?.build()?;
    let outcome = settings(issuer).http_client(client).build()?.fetch(&(), &FetchContext::default()).await;
    issuer.count();
    match outcome {
        Err(error) if error.kind() == ErrorKind::Tls && !error.is_transient() => Ok(error.to_string()),
        Err(error) => Err(format!("another error: {error:?}").into()),
        Ok(_) => Err("the issuer was trusted".into()),
    }
}

fn with_roots(roots: RootCertStore, provider: CryptoProvider) -> Result<HttpClientBuilder, BoxError> {
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

/// Sends one token request and one API request with `client`, and checks the counts of the issuer.
async fn works(issuer: &Issuer, client: HttpClient, hybrid: bool) -> Result<(), BoxError> {
    let provider = settings(issuer).http_client(client.clone()).build()?;
    let request = Request::get(format!("{}/echo", issuer.origin)).body(Bytes::new())?;
    let layer = BearerAuthLayer::new(provider).bodies(replay::Cloned);
    let status = layer.layer(client).oneshot(request).await?.status();
    let counted = issuer.count();
    let expected_hybrid = if hybrid { counted.connections } else { 0 };
    let counts = (status.as_u16(), counted.tokens, counted.requests, counted.hybrid);
    if counts == (200, 1, 1, expected_hybrid) { Ok(()) } else { Err(format!("{status}: {counted:?}").into()) }
}
