//! gRPC with tonic: each kind of call, after its token was revoked, against a server that rejects in each form.
//!
//! ```sh
//! cargo run --example tonic_calls
//! ```
//!
//! In the first three forms the server sends no message before the status, so the calls are replayed. In the other two the
//! caller gets the status, and its next call has a new token.

mod client;
mod server;

use std::sync::Arc;

use http::Uri;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BearerAuthLayer, BoxError, ClientCredentials};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use client::CallClient;
use server::{CallServer, Counts, Form, Method};

// One thread: the server then writes the head and the trailers together in every run, and the counts are always the same.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let sandbox = Arc::new(AccessPspSandbox::start().await?);
    // If more than one cryptography is compiled in, tonic's server needs a default of the process. Its client does not.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (certificate, key) = sandbox.server_identity_pem()?;
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let issuer = Arc::clone(&sandbox);
    let server = CallServer::new(move |headers| issuer.judge(headers).is_accepted());
    let address = server.start(Server::builder().tls_config(tls)?)?;
    let origin: Uri = format!("https://{address}").parse()?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(sandbox.ca_pem()));
    let channel = Channel::builder(origin.clone()).tls_config(tls)?.connect().await?;

    for form in Form::ALL {
        server.reject_as(form);
        let provider = ClientCredentials::builder()
            .client_id(sandbox.client_id())
            .client_secret(sandbox.client_secret())
            .token_url(sandbox.token_url())
            .api_origin(origin.to_string())
            .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
            .build()?;
        let mut client = CallClient::new(BearerAuthLayer::new(provider), channel.clone(), origin.clone(), None);
        client.call(Method::Unary).await?;
        sandbox.reset_records();
        server.take_counts();
        let mut failed = 0;
        for method in Method::ALL {
            sandbox.revoke_all();
            if let Err(status) = client.call(method).await {
                if status.code() != Code::Unauthenticated {
                    return Err(status.into());
                }
                failed += 1;
                client.call(method).await?;
            }
        }
        let Counts { calls, rejected } = server.take_counts();
        let tokens = sandbox.token_request_count();
        println!(
            "{form}: {failed} of 4 fail; the server got {calls} calls and rejected {rejected}; {tokens} token requests"
        );
    }
    Ok(())
}
