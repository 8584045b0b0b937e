//! A plain hyper client over one connection. It uses nothing of tower-bearer-auth.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as crypto;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tower_bearer_auth_sandbox::AccessPspSandbox;

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const JSON: &str = "application/json";

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Body = Full<Bytes>;

/// The trusted roots, the protocol and the client certificate.
#[derive(Clone)]
pub(crate) struct Plain {
    roots: RootCertStore,
    alpn: Vec<Vec<u8>>,
    identity: Option<(String, String)>,
}

/// One connection.
pub(crate) enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Plain {
    pub(crate) fn trusting(ca_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self { roots, alpn: vec![b"http/1.1".to_vec()], identity: None }
    }

    pub(crate) fn http2(mut self) -> Self {
        self.alpn = vec![b"h2".to_vec()];
        self
    }

    pub(crate) fn identity(mut self, certificate_pem: &str, key_pem: &str) -> Self {
        self.identity = Some((certificate_pem.to_owned(), key_pem.to_owned()));
        self
    }

    /// Opens a connection to `origin` (scheme, host, port).
    pub(crate) async fn connect(&self, origin: &str) -> Result<Sender, BoxError> {
        let uri: Uri = origin.parse()?;
        let (host, port) = (uri.host().unwrap(), uri.port_u16().unwrap());
        let tcp = TcpStream::connect((host, port)).await?;
        if uri.scheme_str() == Some("http") {
            let h2 = self.alpn[0] == b"h2";
            return handshake(tcp, h2).await;
        }
        let name = ServerName::try_from(host.to_owned())?;
        let tls = self.connector()?.connect(name, tcp).await?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        handshake(tls, h2).await
    }

    /// Sends one request over a new connection.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Bytes>, BoxError> {
        self.connect(&origin(request.uri())).await?.send(request).await
    }

    fn connector(&self) -> Result<TlsConnector, BoxError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?,
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl Sender {
    /// A second stream of the same HTTP/2 connection.
    pub(crate) fn another_stream(&self) -> Self {
        match self {
            Self::H1(_) => panic!("HTTP/1.1 has one stream"),
            Self::H2(sender) => Self::H2(sender.clone()),
        }
    }

    /// Sends the request and reads the whole response.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Bytes>, BoxError> {
        let response = match self {
            Self::H1(sender) => sender.send_request(origin_form(request)).await?,
            Self::H2(sender) => sender.send_request(request).await?,
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

async fn handshake<S>(stream: S, h2: bool) -> Result<Sender, BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    if h2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Sender::H2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Sender::H1(sender))
    }
}

fn origin(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap())
}

fn origin_form(mut request: Request<Body>) -> Request<Body> {
    let authority = request.uri().authority().unwrap().to_string();
    let path = request.uri().path_and_query().unwrap().to_string();
    *request.uri_mut() = path.parse().unwrap();
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, HeaderValue::from_str(&authority).unwrap());
    request
}

/// The documented form body of a token request.
pub(crate) fn token_form(client_id: &str, client_secret: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("client_secret", client_secret)
        .finish()
}

/// A POST with a content type and a body.
pub(crate) fn post(url: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::post(url).header("content-type", content_type).body(Full::new(body.into())).unwrap()
}

pub(crate) fn json(response: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap()
}

pub(crate) fn token_request(sandbox: &AccessPspSandbox) -> Request<Body> {
    let form = token_form(sandbox.client_id(), sandbox.client_secret());
    post(&sandbox.token_url(), FORM, form)
}

pub(crate) async fn new_token(sandbox: &AccessPspSandbox, client: &Plain) -> String {
    let response = client.send(token_request(sandbox)).await.unwrap();
    assert_eq!(response.status(), 200);
    json(&response)["access_token"].as_str().unwrap().to_owned()
}

pub(crate) fn with_token(mut request: Request<Body>, token: &str) -> Request<Body> {
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

pub(crate) fn session_request(sandbox: &AccessPspSandbox, token: &str) -> Request<Body> {
    let url = format!("{}/wallets/wsps/sessions", sandbox.api_origin());
    with_token(post(&url, JSON, r#"{"reference":"1"}"#), token)
}

pub(crate) fn echo_request(sandbox: &AccessPspSandbox, token: &str) -> Request<Body> {
    let url = format!("{}/echo?x=1", sandbox.api_origin());
    with_token(Request::put(url).body(Full::from("four")).unwrap(), token)
}

/// A valid sale.
pub(crate) fn sale_request(sandbox: &AccessPspSandbox, token: &str) -> Request<Body> {
    let url = format!("{}/uc/v1/wallet/sale", sandbox.api_origin());
    let mut request = with_token(post(&url, JSON, r#"{"amount":100}"#), token);
    let headers = request.headers_mut();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("x-api-key", sandbox.api_key().parse().unwrap());
    let key = HeaderValue::from_static("01234567-89ab-4def-8123-456789abcdef");
    headers.insert("idempotency-key", key);
    request
}
