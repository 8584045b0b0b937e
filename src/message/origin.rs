//! Which origins may receive the token: scheme, host and port (RFC 6454 section 4).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::error::ConfigError;

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

/// Where a request goes, according to its URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An allowed origin, or a URI without an origin: the service below chooses the host.
    Allowed,
    /// An origin that is not allowed. The request is passed through without the token.
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
    /// # Errors
    ///
    /// [`ConfigError`] if `origin` is not an origin (no scheme, no host, a user name, a path, a query, a name that is
    /// not ASCII), or if it would receive the token in clear text and is not loopback.
    pub fn allow(self, origin: &str) -> Result<Self, ConfigError> {
        let parsed = Origin::parse(origin)?;
        if !parsed.https && !is_loopback(&parsed.host) {
            return Err(ConfigError::new("origin", format!("{parsed} would receive the token in clear text"))
                .with_hint("use https, or danger_allow_http if the network below encrypts"));
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

    #[inline]
    pub(crate) fn check(&self, uri: &Uri) -> Destination {
        let Some(authority) = uri.authority() else {
            return Destination::Allowed;
        };
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Some(true),
            Some(scheme) if *scheme == Scheme::HTTP => Some(false),
            _ => None,
        };
        // Most requests end here: nothing is parsed if the URI spells the authority as the allowed origin does.
        if self.allowed.iter().any(|o| Some(o.https) == https && o.authority == authority.as_str()) {
            return Destination::Allowed;
        }
        self.check_parts(authority, https)
    }

    /// Compares scheme, host and port of a URI that spells its origin differently.
    fn check_parts(&self, authority: &Authority, https: Option<bool>) -> Destination {
        if self.allowed.is_empty() {
            return Destination::NothingAllowed;
        }
        let Some(https) = https else {
            return Destination::Foreign;
        };
        // A user name in the authority can disguise one host as another. No API needs it.
        if authority.as_str().contains('@') {
            return Destination::Foreign;
        }
        let Some(port) = port_of(authority, https) else {
            return Destination::Foreign;
        };
        let host = trim_host(authority.host());
        if self.allowed.iter().any(|o| o.https == https && o.port == port && same_host(&o.host, host)) {
            return Destination::Allowed;
        }
        if !https && self.allowed.iter().any(|o| o.https && same_host(&o.host, host)) {
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
        let (uri, https) = absolute_url(text).map_err(invalid)?;
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(invalid("it has a path or a query"));
        }
        let authority = uri.authority().ok_or_else(|| invalid(NO_HOST))?;
        let host = trim_host(authority.host()).to_ascii_lowercase();
        if host.is_empty() {
            return Err(invalid(NO_HOST));
        }
        // A wildcard would match no host, so every request would be sent without the token.
        if host.contains('*') {
            return Err(invalid("it has a wildcard; name each host"));
        }
        let port = port_of(authority, https).ok_or_else(|| invalid(NO_PORT))?;
        let written = if port == default_port(https) { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { https, host, port, authority: written })
    }
}

const NO_HOST: &str = "it has no host";
const NO_PORT: &str = "the port is not a number up to 65535";

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
    let https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(_) => return Err("the scheme is not https"),
        None => return Err("it has no scheme; write https://host"),
    };
    let authority = uri.authority().ok_or(NO_HOST)?;
    if authority.as_str().contains('@') {
        return Err("it has a user name or a password");
    }
    if authority.host().is_empty() {
        return Err(NO_HOST);
    }
    if port_of(authority, https).is_none() {
        return Err(NO_PORT);
    }
    Ok((uri, https))
}

/// The port, or the scheme's default if there is none. `None` if the port is not a number.
fn port_of(authority: &Authority, https: bool) -> Option<u16> {
    match authority.port_u16() {
        Some(port) => Some(port),
        None if authority.as_str().ends_with(authority.host()) => Some(default_port(https)),
        None => None,
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn trim_host(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn same_host(allowed: &str, requested: &str) -> bool {
    allowed.eq_ignore_ascii_case(requested) || matches!((ipv6(allowed), ipv6(requested)), (Some(a), Some(b)) if a == b)
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether a host, as written in a URI, is a loopback host by definition (RFC 6761 section 6.3).
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = trim_host(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || ipv6(host).is_some_and(|ip| ip.is_loopback())
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
