//! Where a token may go: scheme, host and port (RFC 6454 section 4).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::error::{Error, ErrorKind, refused};

/// The origins that may receive a token.
///
/// Scheme, host and port all count. Hosts are compared without case and without a trailing dot, IPv6 addresses by
/// value. A name outside of ASCII is written in its `xn--` form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Vec<Origin>,
}

#[derive(Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
    /// As most URIs write it: the host, and the port where it is not the scheme's own.
    authority: String,
}

/// What the rules say of a request's URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An allowed origin, or none to check: the stack below chooses the host.
    Allowed,
    /// Another origin: the request goes on without the token.
    Foreign,
    /// A host that is allowed over https, asked for over http.
    Insecure,
    /// Nothing is allowed, and the request names an origin.
    NothingAllowed,
}

impl Origins {
    /// No origin: every absolute URI is an error until one is allowed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an origin, as `https://host` or `https://host:port`. `http` is taken for loopback addresses alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] where it is no origin: no scheme or host, a user name, a path, a query, a name that is not
    /// ASCII. [`ErrorKind::InsecureUrl`] for clear text to anything but loopback.
    pub fn allow(self, origin: &str) -> Result<Self, Error> {
        let parsed = Origin::parse(origin)?;
        if !parsed.https && !is_loopback(&parsed.host) {
            return Err(Error::new(
                ErrorKind::InsecureUrl,
                format!("origin {parsed} would get the token in clear text"),
            )
            .with_hint("use https, or danger_allow_http where the network below encrypts"));
        }
        Ok(self.with(parsed))
    }

    /// Adds an origin that gets the token in clear text: whoever can listen on the network can use it.
    ///
    /// For a network that encrypts below HTTP, a service mesh for instance.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] as [`allow`](Self::allow).
    pub fn danger_allow_http(self, origin: &str) -> Result<Self, Error> {
        let parsed = Origin::parse(origin)?;
        Ok(self.with(parsed))
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for origin in other.allowed {
            if !self.allowed.contains(&origin) {
                self.allowed.push(origin);
            }
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
        // What is written exactly so needs no taking apart.
        if self.allowed.iter().any(|o| Some(o.https) == https && o.authority == authority.as_str()) {
            return Destination::Allowed;
        }
        self.check_parts(authority, https)
    }

    /// The same for a URI that does not write its origin as the list does.
    fn check_parts(&self, authority: &Authority, https: Option<bool>) -> Destination {
        if self.allowed.is_empty() {
            return Destination::NothingAllowed;
        }
        let Some(https) = https else {
            return Destination::Foreign;
        };
        // A user name in the authority is how one host is dressed up as another; no API needs it.
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
        if !self.allowed.contains(&origin) {
            self.allowed.push(origin);
        }
        self
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, Error> {
        let refused = |why: &'static str| {
            // The text itself may hold a user name and a password, so it is not repeated.
            refused("origin", why).with_hint("write it as https://host or https://host:port")
        };
        let (uri, https) = absolute_url(text).map_err(refused)?;
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(refused("it has a path or a query"));
        }
        let authority = uri.authority().ok_or_else(|| refused(NO_HOST))?;
        let host = trim_host(authority.host()).to_ascii_lowercase();
        if host.is_empty() {
            return Err(refused(NO_HOST));
        }
        // It would match no request, and every one would go out without the token.
        if host.contains('*') {
            return Err(refused("it has a wildcard; each host is named"));
        }
        let port = port_of(authority, https).ok_or_else(|| refused(NO_PORT))?;
        let written = if port == default_port(https) { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { https, host, port, authority: written })
    }
}

const NO_HOST: &str = "it has no host";
const NO_PORT: &str = "the port is not a number up to 65535";

/// Reads a URL that a secret may be sent to, and whether it is an https one; or says what is wrong with it, without
/// repeating it.
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
    // `Uri` would drop a fragment without a word.
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

/// The port, the scheme's own where none is written; `None` where what is written is none.
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

fn same_host(allowed: &str, asked: &str) -> bool {
    allowed.eq_ignore_ascii_case(asked) || matches!((ipv6(allowed), ipv6(asked)), (Some(a), Some(b)) if a == b)
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether a host, as it stands in a URI, is this machine by definition (RFC 6761 section 6.3).
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
