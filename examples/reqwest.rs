//! Two ways to use reqwest: a `TokenSource` next to a `reqwest::Client`, and the layer over the client in a tower stack.
//!
//! ```sh
//! cargo run --example reqwest
//! ```

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use reqwest::{Body, Client, redirect};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BoxError, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, ScriptedResponse};
use tower_http::follow_redirect::FollowRedirectLayer;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sandbox = AccessPspSandbox::start().await?;
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let source = TokenSource::new(provider);
    let client = client(sandbox.ca_pem())?;
    let url = format!("{}/echo", sandbox.api_origin());

    for what in ["token source, cold start", "token source, after a revocation"] {
        let status = get(&client, &source, &url).await?.status();
        report(what, status, &sandbox)?;
        sandbox.revoke_all();
    }

    // `FollowRedirect` is above the layer, so the layer checks the origin of each redirect. Both ways share one token cache.
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(source.layer())
        .map_response(Response::<Body>::from)
        .filter(|request: Request<Body>| reqwest::Request::try_from(request))
        .service(client);
    let foreign = sandbox.recorder().await?;
    let location = HeaderValue::from_str(&foreign.origin())?;
    sandbox.script_api(ScriptedResponse::new(StatusCode::FOUND).header(header::LOCATION, location));
    let status = stack.oneshot(Request::get(&url).body(Body::default())?).await?.status();
    report("tower stack, a rejection, then a redirect", status, &sandbox)?;
    let leaked = foreign.has_received(b"Bearer");
    println!("foreign server: {} request, with a token: {leaked}", foreign.request_count());
    if leaked || foreign.request_count() != 1 { Err("the foreign server received a token".into()) } else { Ok(()) }
}

/// A client that follows no redirects. It names its cryptography, so it does not depend on the default of the process.
fn client(ca_pem: &str) -> Result<Client, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let builder = Client::builder().tls_backend_preconfigured(tls);
    Ok(builder.redirect(redirect::Policy::none()).no_proxy().build()?)
}

/// Does what the layer does, for an idempotent request. It does not check the origin of `url`.
async fn get(client: &Client, source: &TokenSource<AccessPsp>, url: &str) -> Result<reqwest::Response, BoxError> {
    let mut token = source.token().await?;
    let mut response = client.get(url).header(header::AUTHORIZATION, token.header_value()).send().await?;
    if response.status() == StatusCode::UNAUTHORIZED && source.reject(&(), &token) {
        token = source.token().await?;
        response = client.get(url).header(header::AUTHORIZATION, token.header_value()).send().await?;
    }
    if response.status().is_success() {
        source.accept(&token);
    }
    Ok(response)
}

fn report(what: &str, status: StatusCode, sandbox: &AccessPspSandbox) -> Result<(), BoxError> {
    let requests = sandbox.api_requests();
    let version = requests[0].version;
    let (sends, tokens) = (requests.len(), sandbox.token_request_count());
    println!("{what}: {status} over {version:?}, sent {sends} time(s), {tokens} token request");
    sandbox.reset_records();
    let expected = if what.ends_with("cold start") { 1 } else { 2 };
    let is_expected = (status, sends, tokens) == (StatusCode::OK, expected, 1);
    if is_expected { Ok(()) } else { Err("the counts differ from the expected ones".into()) }
}
