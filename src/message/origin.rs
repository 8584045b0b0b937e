//! Which origins may receive the token: scheme, host and port (RFC 6454 section 4).

use std::fmt;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};

use super::authority::{HostPort, NO_HOST, default_port, is_loopback, same_host};
use super::head::RequestHead;
use crate::error::ConfigError;

const NO_SCHEME: &str = "it has no scheme; write https://host";

/// The origins that may receive a token.
///
/// Scheme, host and port must match. Hosts match regardless of case and of a trailing dot. IPv6 addresses match by value.
/// Write an internationalized name in its `xn--` form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Vec<Origin>,
}

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
    /// As most URIs spell it: the host, and the port if it is not the scheme's default.
    authority: String,
}

/// Where a request goes, according to its URI and its `Host` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An allowed origin, or a URI without an origin: the service below chooses the host.
    Allowed,
    /// An origin that is not allowed, or a request that names two hosts.
    Foreign,
    /// A host that is allowed over https, requested over http.
    Insecure,
    /// No origin is allowed, and the request names one.
    NothingAllowed,
}

impl Origins {
    /// Allows no origin. The layer sends no request to an absolute URI until an origin is allowed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an origin: `https://host` or `https://host:port`. `http` is accepted only for loopback addresses.
    ///
    /// A host is a name, an IPv4 address, or an IPv6 address in brackets. The labels of a name have letters, digits,
    /// hyphens and underscores (RFC 1123 section 2.1, with the underscores of service meshes). A port is from 1 to 65535.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `origin` is not an origin (no scheme, no host, an invalid host or port, a user name, a path, a
    /// query, a name that is not ASCII), or if it would receive the token in clear text and is not loopback.
    pub fn allow(self, origin: &str) -> Result<Self, ConfigError> {
        self.allow_or_hint(origin, "use https, or danger_allow_http if the network below encrypts")
    }

    /// As [`allow`](Self::allow), for a setting without `danger_allow_http`. `hint` says what to do about clear text.
    pub(crate) fn allow_or_hint(self, origin: &str, hint: &str) -> Result<Self, ConfigError> {
        let parsed = Origin::parse(origin)?;
        if !parsed.https && !is_loopback(&parsed.host) {
            return Err(
                ConfigError::new("origin", format!("{parsed} would receive the token in clear text")).with_hint(hint)
            );
        }
        Ok(self.with(parsed))
    }

    /// Adds an origin that may receive the token in clear text. Anyone who can read the network traffic can use the
    /// token.
    ///
    /// This is for a network that encrypts below HTTP, for example a service mesh.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `origin` is not an origin, as for [`allow`](Self::allow).
    pub fn danger_allow_http(self, origin: &str) -> Result<Self, ConfigError> {
        let parsed = Origin::parse(origin)?;
        Ok(self.with(parsed))
    }

    /// Whether no origin is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for origin in other.allowed {
            self.insert(origin);
        }
    }

    /// Where a request goes. A request is foreign if it names two hosts, because the servers on its way may read either
    /// one (RFC 9112 section 3.2).
    // For a few headers, comparing the names takes fewer instructions than a look-up, which hashes the name.
    #[inline(always)]
    pub(crate) fn check(&self, request: &RequestHead<'_>) -> Destination {
        let destination = self.check_uri(request.uri());
        if destination == Destination::Allowed
            && request.headers().keys().any(|name| name == HOST)
            && foreign_host(request.uri(), request.headers()).is_some()
        {
            return Destination::Foreign;
        }
        destination
    }

    #[inline(always)]
    fn check_uri(&self, uri: &Uri) -> Destination {
        let Some(authority) = uri.authority() else {
            // A client that joins such a path to its base URL would read a host after the two slashes.
            return match uri.path().as_bytes() {
                [b'/', b'/' | b'\\', ..] => Destination::Foreign,
                _ => Destination::Allowed,
            };
        };
        let https = is_https(uri);
        // Most requests end here: nothing is parsed if the URI spells the authority as the allowed origin does.
        if self.allowed.iter().any(|o| Some(o.https) == https && o.authority == authority.as_str()) {
            return Destination::Allowed;
        }
        self.check_parts(authority, https)
    }

    /// The host that makes a request foreign, without its port. It is empty if there is none, or if it is not valid.
    pub(crate) fn foreign_host<'a>(&self, request: &RequestHead<'a>) -> &'a str {
        if self.check_uri(request.uri()) != Destination::Allowed {
            return request.uri().host().unwrap_or_default();
        }
        let host = foreign_host(request.uri(), request.headers()).and_then(|value| value.to_str().ok());
        host.and_then(|text| HostPort::parse(text, true).ok()).map_or("", |parsed| parsed.host)
    }

    /// Compares scheme, host and port of a URI that spells its origin differently.
    fn check_parts(&self, authority: &Authority, https: Option<bool>) -> Destination {
        if self.allowed.is_empty() {
            return Destination::NothingAllowed;
        }
        let Some(https) = https else {
            return Destination::Foreign;
        };
        // A user name in the authority can disguise one host as another. No API needs it, and it does not parse.
        let Ok(requested) = HostPort::parse(authority.as_str(), https) else {
            return Destination::Foreign;
        };
        if self.allowed.iter().any(|o| o.https == https && o.host_port().is_same(&requested)) {
            return Destination::Allowed;
        }
        if !https && self.allowed.iter().any(|o| o.https && same_host(&o.host, requested.host)) {
            return Destination::Insecure;
        }
        Destination::Foreign
    }

    fn with(mut self, origin: Origin) -> Self {
        self.insert(origin);
        self
    }

    fn insert(&mut self, origin: Origin) {
        if !self.allowed.contains(&origin) {
            self.allowed.push(origin);
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let invalid = |reason: &'static str| {
            // The text may contain a user name and a password, so the error does not repeat it.
            ConfigError::new("origin", reason).with_hint("write it as https://host or https://host:port")
        };
        let reworded = |reason| match reason {
            _ if text.contains('*') => "it has a wildcard; name each host",
            NO_SCHEME => "it has no scheme", // the hint says what to write
            reason => reason,
        };
        let (uri, https) = absolute_url(text).map_err(reworded).map_err(invalid)?;
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(invalid("it has a path or a query"));
        }
        let authority = uri.authority().ok_or_else(|| invalid(NO_HOST))?;
        let HostPort { host, port } = HostPort::parse(authority.as_str(), https).map_err(invalid)?;
        let host = host.to_ascii_lowercase();
        let written = if port == default_port(https) { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { https, host, port, authority: written })
    }

    fn host_port(&self) -> HostPort<'_> {
        HostPort { host: &self.host, port: self.port }
    }
}

#[inline(always)]
fn is_https(uri: &Uri) -> Option<bool> {
    // Comparing a `Scheme` takes 20 instructions more.
    match uri.scheme_str()? {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

/// The first `Host` header that names another host or port than the URI. If the URI has no host, each must name the same
/// one.
fn foreign_host<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let https = is_https(uri).unwrap_or(true);
    let parse = |text: &'a [u8]| {
        let text = std::str::from_utf8(text).ok()?;
        HostPort::parse(text, https).ok()
    };
    let mut hosts = headers.get_all(HOST).iter();
    let expected = match uri.authority() {
        Some(authority) => HostPort::parse(authority.as_str(), https).ok(),
        None => hosts.next().and_then(|first| parse(first.as_bytes())),
    };
    hosts.find(|host| {
        let found = parse(host.as_bytes());
        !matches!((&expected, found), (Some(expected), Some(found)) if expected.is_same(&found))
    })
}

/// Parses a URL that a secret may be sent to. Returns the URL and whether its scheme is https.
///
/// # Errors
///
/// The reason. It does not repeat the URL, which may contain a password.
pub(crate) fn absolute_url(text: &str) -> Result<(Uri, bool), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if !text.is_ascii() {
        return Err("it is not ASCII; write the host in its xn-- form and escape the rest");
    }
    // `Uri` silently drops a fragment.
    if text.contains('#') {
        return Err("it has a fragment");
    }
    let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
    let https = match (is_https(&uri), uri.scheme()) {
        (Some(https), _) => https,
        (None, Some(_)) => return Err("the scheme is not https"),
        (None, None) => return Err(NO_SCHEME),
    };
    let authority = uri.authority().ok_or(NO_HOST)?;
    if authority.as_str().contains('@') {
        return Err("it has a user name or a password");
    }
    HostPort::parse(authority.as_str(), https)?;
    Ok((uri, https))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.allowed).finish()
    }
}
