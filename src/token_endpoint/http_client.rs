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
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime;
use tower::Service;
use zeroize::Zeroizing;

use super::endpoint::check_timeout;
use super::proxy::{Connector, ProxySettings};
use super::response_body::ResponseBody;
use super::tls::TlsSettings;
use super::token_client::TokenClient;
use crate::error::{BoxError, ConfigError, Error, ErrorKind};
use crate::message::is_loopback;
use crate::rt;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter than the idle timeout of most servers and load balancers, so that this side closes idle connections.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A pooled HTTP/1.1 client for token requests. Cloning shares the pool.
///
/// - **TLS** is rustls with Mozilla's root certificates, which are compiled in. [`HttpClientBuilder`] changes that.
/// - **Cryptography** is the process's default `CryptoProvider` if there is one. Otherwise it is aws-lc-rs if the
///   feature `aws-lc-rs` is on, else ring if the feature `ring` is on. The process's default is never set. A
///   [`rustls_config`](HttpClientBuilder::rustls_config) has its own provider.
/// - **Redirects** are not followed, and cookies are not stored.
/// - **Proxy variables** are ignored, unless [`proxy_from_env`](HttpClientBuilder::proxy_from_env) is set.
/// - **Clear text** is sent only to loopback addresses.
///
/// The client can be built outside of a tokio runtime, and it can outlive the runtimes that use it. Each runtime has
/// its own connections, because a connection stalls while the runtime that opened it is not running. The pool belongs
/// to the runtime of the latest call. A call from another runtime starts a new pool.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    connector: HttpsConnector<Connector>,
    pool: Mutex<Option<(runtime::Id, Pool)>>,
}

type Pool = Client<HttpsConnector<Connector>, Full<Bytes>>;

impl Inner {
    fn pool_of(&self, runtime: runtime::Id) -> Pool {
        let mut pool = self.pool.lock();
        if let Some((_, pool)) = pool.as_ref().filter(|(owner, _)| *owner == runtime) {
            return pool.clone();
        }
        let new = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .build(self.connector.clone());
        *pool = Some((runtime, new.clone()));
        new
    }
}

impl HttpClient {
    /// A client with the default settings: bundled root certificates, no client certificate, no proxy.
    ///
    /// # Errors
    ///
    /// As [`HttpClientBuilder::build`].
    pub fn new() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// A builder with the default settings.
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder {
            tls: TlsSettings::default(),
            proxy: ProxySettings::default(),
            connect_timeout: CONNECT_TIMEOUT,
        }
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
        Box::pin(async move {
            let runtime = rt::with_timers()?;
            let response = inner.pool_of(runtime.id()).request(request.map(Full::new)).await?;
            Ok(response.map(ResponseBody::new))
        })
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

/// The settings of an [`HttpClient`]: which certificates it trusts, its own certificate, and its proxy.
/// [`build`](Self::build) checks them.
#[must_use]
pub struct HttpClientBuilder {
    tls: TlsSettings,
    proxy: ProxySettings,
    connect_timeout: Duration,
}

impl HttpClientBuilder {
    /// Trusts these root certificates (PEM, one or more) and no others. Further calls add certificates.
    ///
    /// It replaces the root certificates of the platform (`native_roots`).
    #[doc(alias = "ca")]
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.add_roots_pem(pem.as_ref());
        self
    }

    /// Trusts the root certificates of the platform and no others. It replaces [`roots_pem`](Self::roots_pem).
    ///
    /// [`build`](Self::build) reads the certificates, which blocks. If `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, the
    /// certificates come from there.
    #[cfg(feature = "native-roots")]
    pub fn native_roots(mut self) -> Self {
        self.tls.use_native_roots();
        self
    }

    /// Presents a client certificate to issuers that request one (mutual TLS, RFC 8705 section 2).
    ///
    /// `chain` is PEM and begins with the client's certificate. `key` is PEM in PKCS#8, PKCS#1 or SEC1 form, not
    /// encrypted.
    #[doc(alias = "mtls")]
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls.set_identity_pem(chain.as_ref(), key.as_ref());
        self
    }

    /// Uses a complete rustls configuration, with its own root certificates, client certificate and cryptography.
    ///
    /// It cannot be combined with the settings for root certificates and the client certificate. The proxy and
    /// [`connect_timeout`](Self::connect_timeout) still apply. The ALPN list is cleared, because token requests use
    /// HTTP/1.1.
    pub fn rustls_config(mut self, config: ClientConfig) -> Self {
        self.tls.set_config(config);
        self
    }

    /// Connects to issuers through this proxy: `http://host:port` or `http://user:password@host:port`, with user and
    /// password percent-encoded. The default port is 80.
    ///
    /// The proxy opens a tunnel (CONNECT, RFC 9110 section 9.3.6), and TLS to the issuer runs inside the tunnel. The
    /// proxy receives the issuer's host and port, and its own credentials in clear text. Requests in clear text to
    /// loopback addresses do not use the proxy.
    ///
    /// Errors of the proxy name its host and port:
    ///
    /// | what happens | error |
    /// | --- | --- |
    /// | the proxy rejects the tunnel | [`ErrorKind::Config`] |
    /// | the proxy is unreachable, or closes the connection | [`ErrorKind::Unavailable`] |
    /// | the tunnel is not open within [`connect_timeout`](Self::connect_timeout) | [`ErrorKind::Timeout`] |
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
    #[doc(alias = "egress proxy")]
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        self.proxy.url = Some(Zeroizing::new(url.as_ref().to_owned()));
        self
    }

    /// Reads the proxy from the environment of the process, in [`build`](Self::build).
    ///
    /// The proxy is the first of `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` and `all_proxy` that is set and not empty,
    /// in the form of [`proxy`](Self::proxy) or as `host:port`. If none is set, there is no proxy. An invalid value is
    /// an error. `NO_PROXY` or `no_proxy` adds entries to [`no_proxy`](Self::no_proxy).
    #[doc(alias = "HTTPS_PROXY")]
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy.from_env = true;
        self
    }

    /// Connects to these issuers without the proxy. The list has commas or spaces between its entries:
    ///
    /// | entry | matches |
    /// | --- | --- |
    /// | `corp.example`, `.corp.example`, `*.corp.example` | this name and all names below it, ignoring case and a trailing dot |
    /// | `10.0.0.1`, `::1`, `[::1]` | this address, if the issuer's URL contains an address |
    /// | `10.0.0.0/8`, `fd00::/8` | the addresses of this network, if the issuer's URL contains an address |
    /// | `corp.example:8443`, `[::1]:443` | the same, only on this port. A URL without a port has port 443 |
    /// | `*` | every issuer |
    ///
    /// Names are not resolved. Any other entry, for example `10.0.0.*`, is an error. If it were ignored, requests would
    /// go to the proxy that must not go there.
    #[doc(alias = "NO_PROXY")]
    pub fn no_proxy(mut self, hosts: impl Into<String>) -> Self {
        self.proxy.exceptions = Some(hosts.into());
        self
    }

    /// Sets the timeout for one TCP connection, and for the tunnel through a proxy. The default is 5 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Checks the settings and builds the client. It opens no connection and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the setting, or of the environment variable:
    ///
    /// - PEM text without a certificate or without a key, or a key that does not match its certificate;
    /// - a platform without root certificates;
    /// - a timeout of zero;
    /// - no cryptography: the process has no default `CryptoProvider`, neither of the features `aws-lc-rs` and `ring`
    ///   is on, and there is no [`rustls_config`](Self::rustls_config);
    /// - an invalid proxy, or an invalid entry of [`no_proxy`](Self::no_proxy);
    /// - a [`rustls_config`](Self::rustls_config) together with root certificates or a client certificate.
    pub fn build(self) -> Result<HttpClient, ConfigError> {
        check_timeout("connect_timeout", self.connect_timeout)?;
        let mut tcp = HttpConnector::new();
        // The connector receives https URLs.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let proxy = self.proxy.into_proxy(&|name| std::env::var_os(name))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.into_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(tcp, proxy, self.connect_timeout));
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

fn insecure_url() -> Error {
    Error::new(ErrorKind::InsecureUrl, "the token request would be sent in clear text")
        .with_hint("use https; http is only for loopback addresses")
}
