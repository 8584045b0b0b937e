//! An egress proxy. The client opens a tunnel with CONNECT (RFC 9110 section 9.3.6). TLS to the issuer runs inside the
//! tunnel.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::{Authority, Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt as _};
use zeroize::Zeroizing;

use super::causes::timed_out;
use super::no_proxy::NoProxy;
use crate::error::{BoxError, ConfigError, Error, ErrorKind};

/// The size limit of the response head that opens the tunnel.
const MAX_HEAD: usize = 8 * 1024;

/// Authentication schemes of proxies other than Basic.
const OTHER_SCHEMES: [&str; 4] = ["Digest", "Negotiate", "NTLM", "Bearer"];

/// The proxy settings of the builder. `build` reads them.
#[derive(Default)]
pub(super) struct ProxySettings {
    pub(super) url: Option<Zeroizing<String>>,
    pub(super) from_env: bool,
    pub(super) exceptions: Option<String>,
}

/// A proxy, and the hosts that the client connects to without it.
pub(super) struct Proxy {
    address: Authority,
    /// `user:password` in base64.
    credentials: Option<Zeroizing<String>>,
    no_proxy: NoProxy,
}

impl ProxySettings {
    /// Makes the proxy. `variable` looks up an environment variable of the process.
    pub(super) fn into_proxy(self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>, ConfigError> {
        let Self { url, from_env, exceptions } = self;
        match (url, from_env) {
            (Some(_), true) => {
                Err(ConfigError::new("proxy", "proxy_from_env is also set").with_hint("set one of the two"))
            }
            (Some(url), false) => {
                let no_proxy = NoProxy::default().add("no_proxy", exceptions.as_deref().unwrap_or_default())?;
                Proxy::new("proxy", &url, no_proxy).map(Some)
            }
            (None, false) if exceptions.is_some() => {
                Err(ConfigError::new("no_proxy", "there is no proxy").with_hint("set proxy or proxy_from_env"))
            }
            (None, false) => Ok(None),
            (None, true) => {
                let mut no_proxy = NoProxy::default().add("no_proxy", exceptions.as_deref().unwrap_or_default())?;
                let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
                let Some((name, url)) = first_set(&names, variable)? else {
                    return Ok(None);
                };
                if let Some((name, list)) = first_set(&["NO_PROXY", "no_proxy"], variable)? {
                    no_proxy = no_proxy.add(name, &list)?;
                }
                Proxy::new(name, &url, no_proxy).map(Some)
            }
        }
    }
}

/// The first of these variables that is set. An empty variable counts as not set.
fn first_set<'a>(
    names: &[&'a str],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(&'a str, Zeroizing<String>)>, ConfigError> {
    for name in names {
        match variable(name).map(OsString::into_string) {
            Some(Ok(value)) if value.trim().is_empty() => {}
            Some(Ok(value)) => return Ok(Some((name, Zeroizing::new(value)))),
            Some(Err(_)) => return Err(ConfigError::new(*name, "it is not UTF-8")),
            None => {}
        }
    }
    Ok(None)
}

impl Proxy {
    /// Parses `http://host:port` or `http://user:password@host:port`. `setting` is the name in errors.
    fn new(setting: &str, url: &str, no_proxy: NoProxy) -> Result<Self, ConfigError> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if scheme.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("socks")) {
            return Err(ConfigError::new(setting, "it is a SOCKS proxy, which is not supported")
                .with_hint("set an HTTP proxy that allows CONNECT, as http://host:port"));
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(ConfigError::new(setting, "the scheme of the proxy is not http")
                .with_hint("write it as http://host:port; the tunnel through the proxy is encrypted anyway"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let invalid =
            || ConfigError::new(setting, "it is not the address of a proxy").with_hint("write it as http://host:port");
        if address.contains(['/', '?', '#', '@']) {
            return Err(invalid());
        }
        let address: Authority = address.parse().map_err(|_| invalid())?;
        if address.host().is_empty() || address.as_str() != with_port(&address, address.port_u16()) {
            return Err(invalid());
        }
        let address = with_port(&address, Some(address.port_u16().unwrap_or(80))).parse().map_err(|_| invalid())?;
        let credentials = user.map(|user| credentials(setting, user)).transpose()?;
        Ok(Self { address, credentials, no_proxy })
    }

    /// Whether requests to `issuer` use the proxy.
    ///
    /// Clear text is only for loopback addresses. Through a proxy, they would be addresses of the proxy's machine.
    fn applies_to(&self, issuer: &Uri) -> bool {
        issuer.scheme() == Some(&Scheme::HTTPS) && !self.no_proxy.lists(issuer)
    }

    fn error(&self, kind: ErrorKind, issuer: &str, what: &str) -> Error {
        Error::new(kind, format!("the proxy at {} {what} {issuer}", self.address)).caused_in_this_process()
    }

    /// Opens a tunnel to `issuer`, given as `host:port`.
    async fn tunnel(&self, tcp: HttpConnector, issuer: &str) -> Result<TcpStream, Error> {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.address.clone()).path_and_query("/").build();
        let uri =
            uri.map_err(|error| ConfigError::new("proxy", "it is not the address of a proxy").with_source(error))?;
        let connected = tcp.oneshot(uri).await.map_err(|error| {
            let kind = if timed_out(&error) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
            self.error(kind, issuer, "could not be reached for a tunnel to").with_source(error)
        })?;
        let mut stream = connected.into_inner();
        let io_error = |error: io::Error| {
            self.error(ErrorKind::Unavailable, issuer, "closed the connection while it opened the tunnel to")
                .with_source(error)
        };
        let malformed = |what| self.error(ErrorKind::MalformedResponse, issuer, what);
        stream.write_all(&self.connect_request(issuer)).await.map_err(io_error)?;
        let mut response = Vec::with_capacity(MAX_HEAD);
        let end = loop {
            if let Some(at) = response.windows(4).position(|four| four == b"\r\n\r\n") {
                // RFC 9110 section 15.2: interim responses may come first. 101 is final: no response follows it.
                if !matches!(status(&response), Some(100 | 102..=199)) {
                    break at + 4;
                }
                response.drain(..at + 4);
                continue;
            }
            if response.len() == MAX_HEAD {
                return Err(malformed("sent more than 8 KiB before it opened the tunnel to"));
            }
            let mut limited = (&mut stream).take((MAX_HEAD - response.len()) as u64);
            if limited.read_buf(&mut response).await.map_err(io_error)? == 0 {
                return Err(self.error(
                    ErrorKind::Unavailable,
                    issuer,
                    "closed the connection before it opened the tunnel to",
                ));
            }
        };
        match status(&response) {
            // The issuer sends nothing before the client does, so these bytes come from the proxy.
            Some(200..=299) if end < response.len() => Err(malformed("sent bytes of its own into the tunnel to")),
            Some(200..=299) => Ok(stream),
            Some(status) => Err(self.rejected(status, &response[..end], issuer)),
            None => Err(malformed("did not send an HTTP response to the CONNECT request for")),
        }
    }

    /// The CONNECT request: host and port, and the proxy's own credentials.
    fn connect_request(&self, issuer: &str) -> Zeroizing<Vec<u8>> {
        let credentials = self.credentials.as_deref().map(String::as_str);
        let capacity = 64 + 2 * issuer.len() + credentials.map_or(0, |credentials| 32 + credentials.len());
        let mut request = Zeroizing::new(Vec::with_capacity(capacity));
        let mut add = |parts: &[&str]| parts.iter().for_each(|part| request.extend_from_slice(part.as_bytes()));
        add(&["CONNECT ", issuer, " HTTP/1.1\r\nHost: ", issuer, "\r\n"]);
        if let Some(credentials) = credentials {
            add(&["Proxy-Authorization: Basic ", credentials, "\r\n"]);
        }
        add(&["\r\n"]);
        request
    }

    fn rejected(&self, status: u16, head: &[u8], issuer: &str) -> Error {
        let error =
            |kind, what: &str| self.error(kind, issuer, &format!("returned HTTP {status} and {what} the tunnel to"));
        match (status, other_scheme(head)) {
            (401 | 407, Some(scheme)) => error(ErrorKind::Config, "requires other credentials for").with_hint(format!(
                "it accepts {scheme} only, and this client sends Basic: use a proxy that accepts Basic"
            )),
            (401 | 407, None) => error(ErrorKind::Config, "requires other credentials for")
                .with_hint("set the user and the password of the proxy, as http://user:password@host:port"),
            // Some proxies return 404 if they cannot resolve the name of the issuer.
            (404 | 408 | 429 | 500..=599, _) => error(ErrorKind::Unavailable, "cannot open"),
            _ => error(ErrorKind::Config, "rejects")
                .with_hint("configure the proxy to allow CONNECT to this host and port"),
        }
    }
}

/// The authentication scheme of a proxy that does not accept Basic. No other text of the response is shown.
fn other_scheme(head: &[u8]) -> Option<&'static str> {
    let head = String::from_utf8_lossy(head);
    let challenges = head.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| {
        name.eq_ignore_ascii_case("proxy-authenticate") || name.eq_ignore_ascii_case("www-authenticate")
    });
    let schemes = challenges.flat_map(|(_, value)| value.split(',')).filter_map(|part| part.split_whitespace().next());
    let mut named = None;
    for scheme in schemes {
        if scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        named = named.or_else(|| OTHER_SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme)));
    }
    named
}

/// `user:password` (RFC 7617). Both are percent-encoded in a URL.
fn credentials(setting: &str, user: &str) -> Result<Zeroizing<String>, ConfigError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let (name, password) = (decoded(name), decoded(password));
    if name.contains(&b':') || name.iter().chain(password.iter()).any(u8::is_ascii_control) {
        return Err(ConfigError::new(
            setting,
            "the user contains a colon, or the user or the password contains a control character",
        )
        .with_hint("HTTP Basic does not allow them; change the credentials of the proxy"));
    }
    let pair = Zeroizing::new([name.as_slice(), b":", password.as_slice()].concat());
    Ok(Zeroizing::new(STANDARD.encode(pair.as_slice())))
}

/// Percent-decodes `text`. The buffer never grows: a buffer that grows leaves copies that are not wiped.
pub(super) fn decoded(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(percent_decode_str(text));
    bytes
}

fn with_port(address: &Authority, port: Option<u16>) -> String {
    port.map_or_else(|| address.host().to_owned(), |port| format!("{}:{port}", address.host()))
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    if rest.get(3).is_some_and(|b| *b != b' ') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Connects to the issuer, directly or through the proxy.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    proxy: Option<Arc<Proxy>>,
    connect_timeout: Duration,
}

impl Connector {
    pub(super) fn new(tcp: HttpConnector, proxy: Option<Proxy>, connect_timeout: Duration) -> Self {
        Self { tcp, proxy: proxy.map(Arc::new), connect_timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, issuer: Uri) -> Self::Future {
        let tcp = self.tcp.clone();
        let Some(proxy) = self.proxy.clone().filter(|proxy| proxy.applies_to(&issuer)) else {
            return Box::pin(async move { Ok(tcp.oneshot(issuer).await?) });
        };
        let limit = self.connect_timeout;
        let host = format!("{}:{}", issuer.host().unwrap_or_default(), issuer.port_u16().unwrap_or(443));
        Box::pin(async move {
            let opened = tokio::time::timeout(limit, proxy.tunnel(tcp, &host)).await.unwrap_or_else(|_| {
                let what = format!("the proxy at {} did not open a tunnel to {host} within {limit:?}", proxy.address);
                Err(Error::new(ErrorKind::Timeout, what))
            });
            Ok(TokioIo::new(opened?))
        })
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.url, self.from_env) {
            (Some(_), _) => "set",
            (None, true) => "from the environment",
            (None, false) => "none",
        })
    }
}
