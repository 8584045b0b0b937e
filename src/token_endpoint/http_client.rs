//! This crate's HTTP client for token requests: hyper-util's pooled client over rustls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime;
use tower::Service;

use super::connection::{ObservedConnector, is_worth_another};
use super::proxy::Connector;
use super::response_body::ResponseBody;
use super::tls_files::Tls;
use super::token_client::TokenClient;
use crate::error::{BoxError, Error, ErrorKind};
use crate::message::{RepeatableTokenRequest, is_loopback};
use crate::rt;

/// A pooled HTTP/1.1 client for token requests. Cloning shares the pool.
///
/// - **TLS** is rustls with Mozilla's root certificates, which are compiled in. [`HttpClientBuilder`](super::HttpClientBuilder) changes that.
/// - **Cryptography** is the process's default `CryptoProvider` if there is one. Otherwise it is aws-lc-rs if the
///   feature `aws-lc-rs` is on, else ring if the feature `ring` is on. The process's default is never set. A
///   [`rustls_config`](super::HttpClientBuilder::rustls_config) has its own provider.
/// - **Redirects** are not followed, and cookies are not stored.
/// - **Proxy variables** are ignored, unless [`proxy_from_env`](super::HttpClientBuilder::proxy_from_env) is set.
/// - **Clear text** is sent only to loopback addresses.
/// - **Idle connections** are closed after 1.5 seconds ([`idle_timeout`](super::HttpClientBuilder::idle_timeout)).
/// - **One retry.** If a token request fails on a connection that an earlier request used, and no byte of the response has
///   arrived, it is sent once more, at once, on a new connection: most probably the server was just closing the idle connection.
///   A provider's token request has no effect except that it issues a token. If the issuer had received the first request, it
///   has issued two; if it revokes the older one, that one is not in use. A request with a `client_assertion` is not sent
///   again, because an issuer may accept an assertion once. Nor are other requests.
///
/// The client can be built outside of a tokio runtime, and it can outlive the runtimes that use it. Each runtime has
/// its own connections, because a connection stalls while the runtime that opened it is not running. The pool belongs
/// to the runtime of the latest call. A call from another runtime starts a new pool.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    tls: Tls,
    idle_timeout: Duration,
    connections: Mutex<Option<Connections>>,
}

/// The connections of one runtime, with one TLS configuration.
#[derive(Clone)]
struct Connections {
    runtime: runtime::Id,
    config: Arc<ClientConfig>,
    pooled: Http1Client,
    /// It never uses a connection twice.
    unpooled: Http1Client,
}

type Http1Client = Client<ObservedConnector, Full<Bytes>>;

impl Inner {
    /// The earlier connections are dropped if the runtime or the configuration is a new one.
    fn connections(&self, runtime: runtime::Id, config: Arc<ClientConfig>) -> Connections {
        let mut latest = self.connections.lock();
        let is_current = |latest: &&Connections| latest.runtime == runtime && Arc::ptr_eq(&latest.config, &config);
        if let Some(current) = latest.as_ref().filter(is_current) {
            return current.clone();
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*config).clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(self.connector.clone());
        let connector = ObservedConnector(connector);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(self.idle_timeout);
        let unpooled = builder.pool_max_idle_per_host(0).build(connector.clone());
        let pooled = match self.idle_timeout.is_zero() {
            true => unpooled.clone(),
            false => builder.pool_max_idle_per_host(usize::MAX).build(connector),
        };
        let new = Connections { runtime, config, pooled, unpooled };
        *latest = Some(new.clone());
        new
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, BoxError> {
        let runtime = rt::with_timers()?;
        let config = self.tls.reload().await;
        let connections = self.connections(runtime.id(), config);
        let is_repeatable = request.extensions().get::<RepeatableTokenRequest>().is_some();
        let copy = is_repeatable.then(|| request.clone());
        let mut request = request.map(Full::new);
        let captured = capture_connection(&mut request);
        let response = match (connections.pooled.request(request).await, copy) {
            (Err(_), Some(copy)) if is_worth_another(&captured) => {
                connections.unpooled.request(copy.map(Full::new)).await
            }
            (response, _) => response,
        };
        response.map(|response| response.map(ResponseBody::new)).map_err(|error| self.tls.explain(error.into()))
    }
}

impl HttpClient {
    pub(super) fn with(connector: Connector, tls: Tls, idle_timeout: Duration) -> Self {
        let connections = Mutex::new(None);
        Self { inner: Arc::new(Inner { connector, tls, idle_timeout, connections }) }
    }
}

impl Service<Request<Bytes>> for HttpClient {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let uri = request.uri();
        let is_safe = uri.scheme() == Some(&Scheme::HTTPS) || uri.host().is_some_and(is_loopback);
        if !is_safe {
            return Box::pin(std::future::ready(Err(insecure_url().into())));
        }
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.send(request).await })
    }
}

impl From<HttpClient> for TokenClient {
    fn from(client: HttpClient) -> Self {
        Self::new(client)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

fn insecure_url() -> Error {
    Error::new(ErrorKind::InsecureUrl, "the token request would be sent in clear text")
        .with_hint("use https; http is only for loopback addresses")
}
