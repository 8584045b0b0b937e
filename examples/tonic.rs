//! gRPC with tonic: a call and a stream of a health service that needs a token. The service rejects an invalid token with
//! `UNAUTHENTICATED`. The example `tonic_calls` has all kinds of calls and all forms of a rejection.
//!
//! ```sh
//! cargo run --example tonic
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;
use tonic::body::Body;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Server, ServerTlsConfig, server::TcpIncoming};
use tonic::{Request, Status};
use tonic_health::ServingStatus::NotServing;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_health::server::{HealthReporter, health_reporter};
use tower::ServiceBuilder;
use tower_bearer_auth::grpc::{self, tonic_0_14::StatusLayer};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BearerAuthLayer, BoxError, ClientCredentials};
use tower_bearer_auth_sandbox::AccessPspSandbox;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sandbox = Arc::new(AccessPspSandbox::start().await?);
    let rejected = Arc::new(AtomicUsize::new(0));
    let (reporter, origin) = serve(&sandbox, &rejected)?;
    let provider = ClientCredentials::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .token_url(sandbox.token_url())
        .api_origin(origin.to_string())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(sandbox.ca_pem()));
    let channel = Channel::builder(origin.clone()).tls_config(tls)?.connect().await?;
    // tonic's body cannot be cloned. The layer keeps what has been sent of it, up to a limit, for a replay.
    let bodies = Buffered::new(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body);
    let auth = grpc::layer(BearerAuthLayer::new(provider).bodies(bodies));
    let stack = ServiceBuilder::new().layer(StatusLayer::new()).layer(auth).service(channel);
    // With the origin, the URI of each call is absolute. The layer needs it to check the origin.
    let mut client = HealthClient::with_origin(stack, origin);

    let response = client.check(HealthCheckRequest::default()).await?.into_inner();
    report("a call", &[response], &sandbox, &rejected, 0)?;

    sandbox.revoke_all();
    let mut stream = client.watch(HealthCheckRequest::default()).await?.into_inner();
    let mut responses = vec![stream.message().await?.ok_or("the stream ended")?];
    reporter.set_service_status("", NotServing).await;
    responses.push(stream.message().await?.ok_or("the stream ended")?);
    report("a stream after a revocation", &responses, &sandbox, &rejected, 1)
}

/// Starts tonic's health service on a loopback port, behind a check of the token.
fn serve(sandbox: &Arc<AccessPspSandbox>, rejected: &Arc<AtomicUsize>) -> Result<(HealthReporter, Uri), BoxError> {
    let (sandbox, rejected) = (Arc::clone(sandbox), Arc::clone(rejected));
    let (certificate, key) = sandbox.server_identity_pem()?;
    let check = move |request: Request<()>| {
        if sandbox.judge(request.metadata().as_ref()).is_accepted() {
            return Ok(request);
        }
        rejected.fetch_add(1, Ordering::SeqCst);
        Err(Status::unauthenticated("the token is not accepted"))
    };
    // If more than one cryptography is compiled in, tonic's server needs a default of the process. Its client does not.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (reporter, health) = health_reporter();
    let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let origin = format!("https://{}", incoming.local_addr()?).parse()?;
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))?
        .add_service(InterceptedService::new(health, check));
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok((reporter, origin))
}

/// Prints and checks what the servers counted since the last report.
fn report(
    what: &str,
    responses: &[HealthCheckResponse],
    sandbox: &AccessPspSandbox,
    rejected: &AtomicUsize,
    expected_rejections: usize,
) -> Result<(), BoxError> {
    let statuses: Vec<_> = responses.iter().map(|response| response.status().as_str_name()).collect();
    let (tokens, rejected) = (sandbox.token_request_count(), rejected.swap(0, Ordering::SeqCst));
    println!("{what}: {}; {tokens} token request, {rejected} rejected", statuses.join(", then "));
    sandbox.reset_records();
    let is_expected = (tokens, rejected) == (1, expected_rejections);
    if is_expected { Ok(()) } else { Err("the counts differ from the expected ones".into()) }
}
