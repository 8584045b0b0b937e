//! An egress proxy: a tunnel by CONNECT (RFC 9110 section 9.3.6), through which TLS is spoken with the issuer.

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

use super::no_proxy::NoProxy;
use crate::error::{BoxError, ConfigError, Error, ErrorKind};

/// No proxy says more before the tunnel is open.
const MAX_HEAD: usize = 8 * 1024;

/// What the builder was told. It is read in `build`.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) url: Option<Zeroizing<String>>,
    pub(super) from_env: bool,
    pub(super) except: Option<String>,
}

/// A proxy, and the hosts that are reached without it.
pub(super) struct Proxy {
    address: Authority,
    /// `user:password`, in base64.
    credentials: Option<Zeroizing<String>>,
    without: NoProxy,
}

impl Choice {
    /// `variable` looks up one of the process's.
    pub(super) fn into_proxy(self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>, ConfigError> {
        let Self { url, from_env, except } = self;
        match (url, from_env) {
            (Some(_), true) => Err(ConfigError::new("proxy", "proxy_from_env is set as well; set one of the two")),
            (Some(url), false) => {
                let without = NoProxy::default().add("no_proxy", except.as_deref().unwrap_or_default())?;
                Proxy::new("proxy", &url, without).map(Some)
            }
            (None, false) if except.is_some() => Err(ConfigError::new("no_proxy", "there is no proxy beside it")),
            (None, false) => Ok(None),
            (None, true) => {
                let mut without = NoProxy::default().add("no_proxy", except.as_deref().unwrap_or_default())?;
                let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
                let Some((name, url)) = first(&names, variable)? else {
                    return Ok(None);
                };
                if let Some((name, list)) = first(&["NO_PROXY", "no_proxy"], variable)? {
                    without = without.add(name, &list)?;
                }
                Proxy::new(name, &url, without).map(Some)
            }
        }
    }
}

/// The first of these that is set. An empty one counts as none.
fn first<'a>(
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
    /// Reads `http://host:port` or `http://user:password@host:port`. `field` is what errors begin with.
    fn new(field: &str, url: &str, without: NoProxy) -> Result<Self, ConfigError> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(ConfigError::new(field, "the proxy's own scheme is not http")
                .with_hint("write it as http://host:port; the tunnel through it is encrypted all the same"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let none = || ConfigError::new(field, "it is no proxy's address").with_hint("write it as http://host:port");
        if address.contains(['/', '?', '#', '@']) {
            return Err(none());
        }
        let address: Authority = address.parse().map_err(|_| none())?;
        if address.host().is_empty() || address.as_str() != with_port(&address, address.port_u16()) {
            return Err(none());
        }
        let address = with_port(&address, Some(address.port_u16().unwrap_or(80))).parse().map_err(|_| none())?;
        let credentials = user.map(|user| credentials(field, user)).transpose()?;
        Ok(Self { address, credentials, without })
    }

    /// Clear text is for loopback, and would be another machine's loopback behind a proxy.
    fn serves(&self, issuer: &Uri) -> bool {
        issuer.scheme() == Some(&Scheme::HTTPS) && !self.without.lists(issuer)
    }

    fn error(&self, kind: ErrorKind, issuer: &str, what: &str) -> Error {
        Error::new(kind, format!("the proxy at {} {what} {issuer}", self.address))
    }

    /// Opens a tunnel to `issuer`, as `host:port`.
    async fn tunnel(&self, tcp: HttpConnector, issuer: &str) -> Result<TcpStream, Error> {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.address.clone()).path_and_query("/").build();
        let uri = uri.map_err(|error| ConfigError::new("proxy", "it is no proxy's address").with_source(error))?;
        let connected = tcp.oneshot(uri).await.map_err(|error| {
            let kind = if super::call::timed_out(&error) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
            self.error(kind, issuer, "could not be reached, on the way to").with_source(error)
        })?;
        let mut stream = connected.into_inner();
        let broken =
            |error: io::Error| self.error(ErrorKind::Unavailable, issuer, "broke off the tunnel to").with_source(error);
        let malformed = |what| self.error(ErrorKind::MalformedResponse, issuer, what);
        stream.write_all(&self.request(issuer)).await.map_err(broken)?;
        let mut answer = Vec::with_capacity(MAX_HEAD);
        let end = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                // RFC 9110 section 15.2: any number of these may come before the answer. 101 is one: nothing follows it.
                if !matches!(status(&answer), Some(100 | 102..=199)) {
                    break at + 4;
                }
                answer.drain(..at + 4);
                continue;
            }
            if answer.len() == MAX_HEAD {
                return Err(malformed("says too much before the tunnel to"));
            }
            let mut room = (&mut stream).take((MAX_HEAD - answer.len()) as u64);
            if room.read_buf(&mut answer).await.map_err(broken)? == 0 {
                return Err(self.error(ErrorKind::Unavailable, issuer, "closed the connection, on the way to"));
            }
        };
        match status(&answer) {
            // An issuer says nothing before it is spoken to.
            Some(200..=299) if end < answer.len() => Err(malformed("speaks for itself in the tunnel to")),
            Some(200..=299) => Ok(stream),
            Some(status) => Err(self.rejection(status, issuer)),
            None => Err(malformed("does not speak HTTP, on the way to")),
        }
    }

    /// Host and port, and the credentials that are the proxy's own: nothing else is for it to see.
    fn request(&self, issuer: &str) -> Zeroizing<Vec<u8>> {
        let credentials = self.credentials.as_deref().map(String::as_str);
        let room = 64 + 2 * issuer.len() + credentials.map_or(0, |credentials| 32 + credentials.len());
        let mut request = Zeroizing::new(Vec::with_capacity(room));
        let mut add = |parts: &[&str]| parts.iter().for_each(|part| request.extend_from_slice(part.as_bytes()));
        add(&["CONNECT ", issuer, " HTTP/1.1\r\nHost: ", issuer, "\r\n"]);
        if let Some(credentials) = credentials {
            add(&["Proxy-Authorization: Basic ", credentials, "\r\n"]);
        }
        add(&["\r\n"]);
        request
    }

    fn rejection(&self, status: u16, issuer: &str) -> Error {
        let told = |kind, what: &str| self.error(kind, issuer, &format!("answered HTTP {status} and {what}"));
        match status {
            407 => told(ErrorKind::Config, "wants other credentials for the tunnel to")
                .with_hint("set the proxy's user and password, as http://user:password@host:port"),
            408 | 429 | 500..=599 => told(ErrorKind::Unavailable, "opens no tunnel to"),
            _ => told(ErrorKind::Config, "refuses the tunnel to")
                .with_hint("have the proxy allow CONNECT to this host and port"),
        }
    }
}

/// RFC 7617: `user:password`, which a URL percent-encodes.
fn credentials(field: &str, user: &str) -> Result<Zeroizing<String>, ConfigError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let (name, password) = (decoded(name), decoded(password));
    if name.contains(&b':') || name.iter().chain(password.iter()).any(u8::is_ascii_control) {
        return Err(ConfigError::new(
            field,
            "the user name or the password has a character that HTTP Basic cannot carry",
        ));
    }
    let pair = Zeroizing::new([name.as_slice(), b":", password.as_slice()].concat());
    Ok(Zeroizing::new(STANDARD.encode(pair.as_slice())))
}

/// Sized for the case that nothing is encoded: a buffer that grows leaves unwiped copies behind.
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

/// Connects to the issuer: straight, or through the proxy.
#[derive(Clone)]
pub(super) struct Route {
    tcp: HttpConnector,
    proxy: Option<Arc<Proxy>>,
    patience: Duration,
}

impl Route {
    pub(super) fn new(tcp: HttpConnector, proxy: Option<Proxy>, patience: Duration) -> Self {
        Self { tcp, proxy: proxy.map(Arc::new), patience }
    }
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, issuer: Uri) -> Self::Future {
        let tcp = self.tcp.clone();
        let Some(proxy) = self.proxy.clone().filter(|proxy| proxy.serves(&issuer)) else {
            return Box::pin(async move { Ok(tcp.oneshot(issuer).await?) });
        };
        let patience = self.patience;
        let host = format!("{}:{}", issuer.host().unwrap_or_default(), issuer.port_u16().unwrap_or(443));
        Box::pin(async move {
            let opened = tokio::time::timeout(patience, proxy.tunnel(tcp, &host)).await;
            let opened = opened.unwrap_or_else(|_| {
                Err(proxy.error(ErrorKind::Timeout, &host, &format!("opened no tunnel within {patience:?} to")))
            });
            Ok(TokioIo::new(opened?))
        })
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.url, self.from_env) {
            (Some(_), _) => "set",
            (None, true) => "from the environment",
            (None, false) => "none",
        })
    }
}
