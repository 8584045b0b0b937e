//! gRPC by tonic: a call and a stream of a health service that wants a token, and says `UNAUTHENTICATED` to a bad one.
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
use tower::Layer;
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BearerAuthLayer, BoxError, ClientCredentials};
use tower_bearer_auth_sandbox::AccessPspSandbox;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sandbox = Arc::new(AccessPspSandbox::start().await?);
    let refused = Arc::new(AtomicUsize::new(0));
    let (reporter, origin) = serve(&sandbox, &refused)?;
    let provider = ClientCredentials::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .token_url(sandbox.token_url())
        .api_origin(origin.to_string())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(sandbox.ca_pem()));
    let channel = Channel::builder(origin.clone()).tls_config(tls)?.connect().await?;
    // tonic's body cannot be cloned: what has been sent of it is kept, up to a limit, for a second sending.
    let bodies = Buffered::new(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body);
    let stack = BearerAuthLayer::new(provider).bodies(bodies).layer(channel);
    // With its origin, so that the layer can see where a call goes.
    let mut client = HealthClient::with_origin(stack, origin);

    let answer = client.check(HealthCheckRequest::default()).await?.into_inner();
    report("a call", &[answer], &sandbox, &refused, 0)?;

    sandbox.revoke_all();
    let mut stream = client.watch(HealthCheckRequest::default()).await?.into_inner();
    let mut answers = vec![stream.message().await?.ok_or("the stream ended")?];
    reporter.set_service_status("", NotServing).await;
    answers.push(stream.message().await?.ok_or("the stream ended")?);
    report("a stream after a revocation", &answers, &sandbox, &refused, 1)
}

/// The server: tonic's own health service, behind a check of the token, on a port of loopback.
fn serve(sandbox: &Arc<AccessPspSandbox>, refused: &Arc<AtomicUsize>) -> Result<(HealthReporter, Uri), BoxError> {
    let (sandbox, refused) = (Arc::clone(sandbox), Arc::clone(refused));
    let (certificate, key) = sandbox.server_identity_pem()?;
    let check = move |request: Request<()>| {
        if sandbox.judge(request.metadata().as_ref()).is_accepted() {
            return Ok(request);
        }
        refused.fetch_add(1, Ordering::SeqCst);
        Err(Status::unauthenticated("the token is not accepted"))
    };
    // tonic's server, not its client, wants a process default where more than one cryptography is compiled in.
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

/// Says what the servers counted since the last time.
fn report(
    what: &str,
    answers: &[HealthCheckResponse],
    sandbox: &AccessPspSandbox,
    refused: &AtomicUsize,
    expected_refusals: usize,
) -> Result<(), BoxError> {
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_str_name()).collect();
    let (tokens, refused) = (sandbox.token_request_count(), refused.swap(0, Ordering::SeqCst));
    println!("{what}: {}; {tokens} token request, {refused} refused on the way", statuses.join(", then "));
    sandbox.reset_records();
    if (tokens, refused) == (1, expected_refusals) { Ok(()) } else { Err("not as it should be".into()) }
}
