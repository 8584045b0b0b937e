//! hyper-util's pooled client over TLS, as a user puts it below the layer, and a provider for a sandbox.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, AccessPspBuilder, BoxError};
use tower_bearer_auth_sandbox::AccessPspSandbox;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Http {
    One,
    Two,
}

/// A client that trusts the sandbox's certificates.
pub(crate) fn client<B>(sandbox: &AccessPspSandbox, version: Http) -> Client<HttpsConnector<HttpConnector>, B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(sandbox.ca_pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    client_with(roots, version)
}

/// A client that trusts `roots`. The URI decides between TLS and clear text.
pub(crate) fn client_with<B>(roots: RootCertStore, version: Http) -> Client<HttpsConnector<HttpConnector>, B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let mut builder = Client::builder(TokioExecutor::new());
    match version {
        Http::One => builder.build(connector.enable_http1().build()),
        Http::Two => builder.http2_only(true).build(connector.enable_http2().build()),
    }
}

/// A provider for the sandbox.
pub(crate) fn provider(sandbox: &AccessPspSandbox) -> AccessPspBuilder {
    AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap())
}
