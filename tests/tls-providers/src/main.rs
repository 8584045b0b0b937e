//! A token call and a request over TLS, under every choice of cryptography that this build has.
//!
//! ```sh
//! tls-providers none|poisoned|ring|aws-lc-rs
//! ```
//!
//! The argument is what the process has for a default: nothing, a provider that can do nothing, or a working one. It must
//! make no difference, and it must be the same afterwards. `scripts/full tls` runs all of them, in a build with ring
//! alone and in one with both, where rustls itself refuses to choose.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::exchange::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::sandbox::AccessPspSandbox;
use tower_bearer_auth::{AccessPsp, BearerAuthLayer, BoxError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let default = std::env::args().nth(1).unwrap_or_default();
    let provider = match default.as_str() {
        "none" => None,
        "poisoned" => Some(CryptoProvider { cipher_suites: vec![], kx_groups: vec![], ..ring::default_provider() }),
        "ring" => Some(ring::default_provider()),
        #[cfg(feature = "both")]
        "aws-lc-rs" => Some(rustls::crypto::aws_lc_rs::default_provider()),
        _ => return Err("usage: tls-providers none|poisoned|ring|aws-lc-rs (the last in a build with both)".into()),
    };
    if let Some(provider) = provider {
        provider.install_default().map_err(|_| "there was a default before")?;
    }
    let before = CryptoProvider::get_default().map(Arc::as_ptr);

    let sandbox = AccessPspSandbox::start().await?;
    let trusting = || HttpClient::builder().roots_pem(sandbox.ca_pem());
    #[cfg_attr(not(feature = "both"), expect(unused_mut, reason = "more are added where there are more"))]
    let mut cases = vec![
        ("ring, which is there without asking", trusting()),
        ("a configuration that names ring", whole(&sandbox, ring::default_provider())?),
    ];
    #[cfg(feature = "both")]
    cases.extend([
        ("aws-lc-rs, asked for", trusting().aws_lc_rs()),
        ("a configuration that names aws-lc-rs", whole(&sandbox, rustls::crypto::aws_lc_rs::default_provider())?),
    ]);
    let compiled_in = if cfg!(feature = "both") { "ring and aws-lc-rs" } else { "ring" };
    for (what, client) in cases {
        works(&sandbox, client.build()?).await.map_err(|error| format!("{what}: {error}"))?;
        println!("{compiled_in} compiled in, process default {default}: {what}: works");
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
    if panics == cfg!(feature = "both") {
        Ok(())
    } else {
        Err("this build has not the providers that it should".into())
    }
}

fn whole(sandbox: &AccessPspSandbox, provider: CryptoProvider) -> Result<HttpClientBuilder, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpClient::builder().rustls_config(config))
}

/// One request through the layer, both the token call and the request over `client`.
async fn works(sandbox: &AccessPspSandbox, client: HttpClient) -> Result<(), BoxError> {
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(client.clone())
        .build()?;
    let request = Request::get(format!("{}/echo", sandbox.api_origin())).body(Full::<Bytes>::default())?;
    let status = BearerAuthLayer::new(provider).layer(client).oneshot(request).await?.status();
    let counted = (status.as_u16(), sandbox.token_request_count(), sandbox.api_request_count());
    sandbox.reset_records();
    if counted == (200, 1, 1) { Ok(()) } else { Err(format!("status, token requests, requests: {counted:?}").into()) }
}
