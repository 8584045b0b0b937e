//! A sidecar gateway. Services on this machine send plain HTTP to it. It adds TLS and the token.
//!
//! ```sh
//! cargo run --example axum_gateway
//! ```

mod gateway;

use std::net::Ipv4Addr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::net::TcpListener;
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BoxError, TokenSource};
use tower_bearer_auth_sandbox::AccessPspSandbox;

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
    let gateway = gateway::router(sandbox.api_origin().parse()?, source.layer(), https_client(sandbox.ca_pem())?);
    // Every client of this port uses our token, so the gateway listens on loopback only.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(async move { axum::serve(listener, gateway).await });

    // A service on this machine. It does not handle tokens.
    let service = Service { http: Client::builder(TokioExecutor::new()).build_http(), address };
    service.expect("GET", "/livez", StatusCode::OK).await?;
    service.expect("GET", "/readyz", StatusCode::SERVICE_UNAVAILABLE).await?;
    // The readiness probe started a fetch. Wait until it completes.
    source.warm_up().await?;
    service.expect("GET", "/readyz", StatusCode::OK).await?;
    service.expect("POST", "/wallets/wsps/sessions", StatusCode::CREATED).await?;
    sandbox.revoke_all();
    service.expect("POST", "/wallets/wsps/sessions", StatusCode::CREATED).await?;
    serving.abort();

    let requests = sandbox.api_requests();
    let rejected = requests.iter().filter(|request| request.status == Some(StatusCode::UNAUTHORIZED)).count();
    // The service sends its own credentials. They must not reach the API.
    let leaked = requests.iter().any(|request| !request.headers["authorization"].as_bytes().starts_with(b"Bearer "));
    let (sessions, tokens) = (sandbox.sessions().len(), sandbox.token_request_count());
    println!("upstream: {sessions} sessions, {rejected} rejected, {tokens} token requests, leaked: {leaked}");
    if (sessions, rejected, tokens, leaked) == (2, 1, 2, false) {
        Ok(())
    } else {
        Err("the counts differ from the expected ones".into())
    }
}

struct Service {
    http: Client<HttpConnector, String>,
    address: String,
}

impl Service {
    async fn expect(&self, method: &str, path: &str, expected: StatusCode) -> Result<(), BoxError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("authorization", "Basic bG9jYWw6c2VjcmV0")
            .header("content-type", "application/json")
            .body(if method == "POST" { r#"{"reference":"order 17"}"#.to_owned() } else { String::new() })?;
        let status = self.http.request(request).await?.status();
        println!("{method} {path}: {status}");
        if status == expected { Ok(()) } else { Err(format!("not {expected}").into()) }
    }
}

fn https_client(ca_pem: &str) -> Result<gateway::Https, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
