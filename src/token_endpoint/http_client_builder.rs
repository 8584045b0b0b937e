//! The settings of this crate's HTTP client.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::endpoint::check_timeout;
use super::http_client::HttpClient;
use super::proxy::{Connector, ProxySettings};
use super::tls::TlsSettings;
use super::tls_files::Tls;
use crate::error::ConfigError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Apache and Node close idle connections after 5 seconds, and gunicorn after 2. A request on a connection that the server
/// closes at that moment fails.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The settings of an [`HttpClient`]: which certificates it trusts, its own certificate, and its proxy.
/// [`build`](Self::build) checks them.
#[must_use]
pub struct HttpClientBuilder {
    tls: TlsSettings,
    proxy: ProxySettings,
    connect_timeout: Duration,
    idle_timeout: Duration,
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
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

impl HttpClientBuilder {
    /// Trusts these root certificates (PEM, one or more) and no others. Further calls add certificates.
    ///
    /// It replaces the root certificates of the platform (`native_roots`) and of a [file](Self::roots_file).
    #[doc(alias = "ca")]
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.add_roots_pem(pem.as_ref());
        self
    }

    /// Trusts the root certificates in this file (PEM, one or more, at most 1 MiB) and no others.
    ///
    /// It replaces [`roots_pem`](Self::roots_pem) and `native_roots`.
    ///
    /// [`build`](Self::build) reads the file, which blocks. Each request reads it again. If the content has changed, the request
    /// uses the new certificates and a new connection. A file that cannot be read within 2 seconds, or that contains no valid
    /// certificates, changes nothing: the latest valid content stays in use, and the source of the next error says why. Replace the
    /// file by renaming a complete one.
    ///
    /// At most one thread reads the file at a time, so a mount that hangs does not use up the runtime's blocking threads.
    #[doc(alias = "ca")]
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.set_roots_file(path.into());
        self
    }

    /// Trusts the root certificates of the platform and no others. It replaces [`roots_pem`](Self::roots_pem) and
    /// [`roots_file`](Self::roots_file).
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

    /// As [`identity_pem`](Self::identity_pem), from two files that may change. It replaces `identity_pem`.
    ///
    /// The files are read as [`roots_file`](Self::roots_file) says. While the key does not match the certificate, because only
    /// one of the files has been replaced, the earlier pair stays in use. Both settings may name the same file.
    #[doc(alias = "mtls")]
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.set_identity_files(chain.into(), key.into());
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
    /// | the proxy rejects the tunnel | [`ErrorKind::Config`](crate::ErrorKind::Config) |
    /// | the proxy cannot open the tunnel (404, 408, 429 or 5xx), for example because it cannot resolve the issuer's name | [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) |
    /// | the proxy is unreachable, or closes the connection | [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) |
    /// | the tunnel is not open within [`connect_timeout`](Self::connect_timeout) | [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) |
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

    /// Sets how long an idle connection can be used again, from zero to one hour. The default is 1.5 seconds. Zero means that each
    /// request opens a connection.
    ///
    /// The connection is closed after that time, and at most after twice that time. Set less than the server's own idle timeout:
    /// a request on a connection that the server closes at that moment fails. Such a token request is sent once more, on a new
    /// connection.
    #[doc(alias = "keep-alive")]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Checks the settings, reads the files, and builds the client. It opens no connection and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the setting, or of the environment variable:
    ///
    /// - PEM text without a certificate or without a key, or a key that does not match its certificate;
    /// - a file that cannot be read, or is larger than 1 MiB. The error contains no content;
    /// - a platform without root certificates;
    /// - a [`connect_timeout`](Self::connect_timeout) of zero, or an [`idle_timeout`](Self::idle_timeout) of more than one hour;
    /// - no cryptography: the process has no default `CryptoProvider`, neither of the features `aws-lc-rs` and `ring`
    ///   is on, and there is no [`rustls_config`](Self::rustls_config);
    /// - an invalid proxy, or an invalid entry of [`no_proxy`](Self::no_proxy);
    /// - a [`rustls_config`](Self::rustls_config) together with root certificates or a client certificate.
    pub fn build(self) -> Result<HttpClient, ConfigError> {
        check_timeout("connect_timeout", self.connect_timeout)?;
        if self.idle_timeout > MAX_IDLE_TIMEOUT {
            return Err(ConfigError::new("idle_timeout", "it is longer than one hour")
                .with_hint("set less than the time after which the issuer closes idle connections"));
        }
        let mut tcp = HttpConnector::new();
        // The connector receives https URLs.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let proxy = self.proxy.into_proxy(&|name| std::env::var_os(name))?;
        let connector = Connector::new(tcp, proxy, self.connect_timeout);
        Ok(HttpClient::with(connector, Tls::new(self.tls)?, self.idle_timeout))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish()
    }
}
