//! This crate's own HTTP client for token calls: hyper-util's pool over rustls, HTTP/1.1, a pool for each runtime.

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
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime;
use tower::Service;
use zeroize::Zeroizing;

use super::proxy::{Choice, Route};
use super::service::ResponseBody;
use super::tls::Tls;
use crate::error::{BoxError, ConfigError, Error, ErrorKind};
use crate::message::is_loopback;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below what servers and load balancers commonly allow, so that it is this side that closes.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// A pooled HTTP/1.1 client for token calls. Cloning shares the pool.
///
/// A connection is used in the tokio runtime that opened it, and in no other: one that nobody drives at the moment would
/// leave its connections without an answer. The pool is that of the runtime that called last; a call from another one
/// begins a new pool.
///
/// TLS is rustls with Mozilla's roots, compiled in, unless the builder is told otherwise. Its cryptography is ring under
/// the feature `ring`, aws-lc-rs under the feature `aws-lc-rs` alone, and under neither that of a
/// [`rustls_config`](HttpClientBuilder::rustls_config), which has to be given then. The process-wide default of rustls is
/// neither read nor set. It follows no redirect, keeps no cookies, reads no proxy variable unless
/// [`proxy_from_env`](HttpClientBuilder::proxy_from_env) says so, and speaks clear text to loopback alone.
///
/// It is built outside of a runtime as well as inside, and outlives the runtimes that it was used in.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    connector: HttpsConnector<Route>,
    pool: Mutex<Option<(runtime::Id, Pool)>>,
}

type Pool = Client<HttpsConnector<Route>, Full<Bytes>>;

impl Inner {
    fn pool_of(&self, runtime: runtime::Id) -> Pool {
        let mut pool = self.pool.lock();
        if let Some((_, pool)) = pool.as_ref().filter(|(owner, _)| *owner == runtime) {
            return pool.clone();
        }
        let fresh = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(self.connector.clone());
        *pool = Some((runtime, fresh.clone()));
        fresh
    }
}

impl HttpClient {
    /// A client with bundled roots, the cryptography that is compiled in, and no client certificate.
    ///
    /// # Errors
    ///
    /// As [`HttpClientBuilder::build`].
    pub fn new() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// Starts from the same.
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder { tls: Tls::default(), proxy: Choice::default(), connect_timeout: CONNECT_TIMEOUT }
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
        let safe = uri.scheme() == Some(&Scheme::HTTPS) || uri.host().is_some_and(is_loopback);
        if !safe {
            return Box::pin(std::future::ready(Err(Error::new(
                ErrorKind::InsecureUrl,
                "the request would go out in clear text",
            )
            .with_hint("use https; http is for loopback alone")
            .into())));
        }
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let runtime = runtime::Handle::try_current().map_err(|_| no_runtime())?;
            let answer = inner.pool_of(runtime.id()).request(request.map(Full::new));
            Ok(answer.await?.map(ResponseBody::new))
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Says whom an [`HttpClient`] trusts, who it is, and by which way it goes.
#[must_use]
pub struct HttpClientBuilder {
    tls: Tls,
    proxy: Choice,
    connect_timeout: Duration,
}

impl HttpClientBuilder {
    /// Trusts these certificates (PEM, one or more) and no others. Called again, it adds to them.
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.add_roots_pem(pem.as_ref());
        self
    }

    /// Trusts the platform's store and nothing else; what [`roots_pem`](Self::roots_pem) set before is replaced, and the
    /// reverse. The store is read in [`build`](Self::build), which blocks. Where `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, it is
    /// what they name.
    #[cfg(feature = "native-roots")]
    pub fn native_roots(mut self) -> Self {
        self.tls.use_native_roots();
        self
    }

    /// Shows a client certificate to issuers that ask for one (mutual TLS; RFC 8705 section 2).
    ///
    /// Both are PEM: the chain with the leaf first; the key as PKCS#8, PKCS#1 or SEC1, and not encrypted.
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls.set_identity_pem(chain.as_ref(), key.as_ref());
        self
    }

    /// Uses a whole rustls configuration, with its own roots, identity and cryptography; a choice of those beside it is an
    /// error of [`build`](Self::build). The proxy and [`connect_timeout`](Self::connect_timeout) apply as they do without it.
    /// Its ALPN list is emptied: the token call is HTTP/1.1.
    pub fn rustls_config(mut self, config: ClientConfig) -> Self {
        self.tls.set_config(config);
        self
    }

    /// Uses aws-lc-rs for the cryptography, where ring is compiled in as well and would be taken.
    #[cfg(feature = "aws-lc-rs")]
    pub fn aws_lc_rs(mut self) -> Self {
        self.tls.use_aws_lc_rs();
        self
    }

    /// Reaches issuers through this proxy: `http://host:port`, or `http://user:password@host:port` with both
    /// percent-encoded. The port is 80 where none is written.
    ///
    /// The proxy is asked for a tunnel (CONNECT, RFC 9110 section 9.3.6), in which TLS is spoken with the issuer. It sees
    /// the issuer's host and port, and its own credentials in clear text. Clear text to loopback does not go through it.
    /// A proxy that refuses is an [`ErrorKind::Config`] error, one that is down, closes or breaks off is
    /// [`ErrorKind::Unavailable`], and one that does not answer within [`connect_timeout`](Self::connect_timeout) is
    /// [`ErrorKind::Timeout`]. All of them name the proxy's host and port.
    ///
    /// ```
    /// use tower_bearer_auth::AccessPsp;
    /// use tower_bearer_auth::token_endpoint::HttpClient;
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let client = HttpClient::builder().proxy("http://proxy.example:3128").build()?;
    /// let provider = AccessPsp::builder()
    ///     .client_id("my-client-id")
    ///     .client_secret("my-client-secret")
    ///     .http_client(client)
    ///     .build()?;
    /// # drop(provider);
    /// # Ok(()) }
    /// ```
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        self.proxy.url = Some(Zeroizing::new(url.as_ref().to_owned()));
        self
    }

    /// Takes the proxy from the process's environment, which is read in [`build`](Self::build): the first of
    /// `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` and `all_proxy` that is set and not empty, as [`proxy`](Self::proxy) has
    /// it, or as `host:port`. `NO_PROXY` or `no_proxy` are added to [`no_proxy`](Self::no_proxy). Without any, there is
    /// no proxy; one that cannot be used is an error, and never passed over.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy.from_env = true;
        self
    }

    /// Reaches these issuers without the proxy, by a list with commas or spaces between its entries:
    ///
    /// | entry | what it is |
    /// | --- | --- |
    /// | `corp.example`, `.corp.example`, `*.corp.example` | this name and all that is below it, without regard to case or a dot at the end |
    /// | `10.0.0.1`, `::1`, `[::1]` | an address, where the issuer's URL has an address |
    /// | `10.0.0.0/8`, `fd00::/8` | the addresses of a network, likewise |
    /// | `corp.example:8443`, `[::1]:443` | the same, on this port alone; 443 is that of a URL without one |
    /// | `*` | every issuer |
    ///
    /// No name is looked up. Any other entry is an error, `10.0.0.*` for instance: passed over, it would send requests
    /// to the proxy that are not meant for it.
    pub fn no_proxy(mut self, hosts: impl Into<String>) -> Self {
        self.proxy.except = Some(hosts.into());
        self
    }

    /// Sets how long one TCP connection may take to come up, and how long a proxy may take to open a tunnel. 5 seconds by
    /// default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Makes the client. Nothing is connected, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] that names the setting: PEM without a certificate or a key in it, a key that does not go with
    /// its certificate, a platform store that is empty, a timeout of zero, no cryptography (neither the feature `ring` nor
    /// `aws-lc-rs` is on, and no [`rustls_config`](Self::rustls_config) was given), a proxy that is none or an entry of
    /// [`no_proxy`](Self::no_proxy) that is none (the error begins with the variable's name where it comes from one), a
    /// [`rustls_config`](Self::rustls_config) beside roots, an identity or a choice of cryptography.
    pub fn build(self) -> Result<HttpClient, ConfigError> {
        if self.connect_timeout.is_zero() {
            return Err(ConfigError::new("connect_timeout", "it has to be longer than zero"));
        }
        let mut tcp = HttpConnector::new();
        // It is TLS that is spoken over it.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let proxy = self.proxy.into_proxy(&|name| std::env::var_os(name))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.into_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Route::new(tcp, proxy, self.connect_timeout));
        Ok(HttpClient { inner: Arc::new(Inner { connector, pool: Mutex::new(None) }) })
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

fn no_runtime() -> Error {
    Error::new(ErrorKind::NoRuntime, "an HTTP request needs a tokio runtime")
}
