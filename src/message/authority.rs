//! The host and the port of a URI, a `Host` header or an allowed origin.
//!
//! `http::uri::Authority` accepts more than hosts: `[::1].evil.example`, `a:1a`, `exa$mple`. This parser accepts names, IP
//! addresses and ports only.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const NO_HOST: &str = "it has no host";
pub(super) const NO_PORT: &str = "the port is not a number from 1 to 65535";
const NOT_A_HOST: &str = "the host is neither a name nor an IP address";

/// The longest name and the longest label of a name, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A host without its trailing dot, and a port.
#[derive(Clone, Copy)]
pub(super) struct HostPort<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> HostPort<'a> {
    /// Parses `host` or `host:port`. Without a port, it is the default port of the scheme.
    ///
    /// # Errors
    ///
    /// The reason. It does not repeat the text.
    pub(super) fn parse(authority: &'a str, https: bool) -> Result<Self, &'static str> {
        let (host, port) = split(authority)?;
        if host.is_empty() {
            return Err(NO_HOST);
        }
        let host = trim_host(host);
        if !is_host(host) {
            return Err(NOT_A_HOST);
        }
        let port = match port {
            Some(port) => port_number(port).ok_or(NO_PORT)?,
            None => default_port(https),
        };
        Ok(Self { host, port })
    }

    pub(super) fn is_same(&self, other: &HostPort<'_>) -> bool {
        self.port == other.port && same_host(self.host, other.host)
    }
}

/// The text of the host, and the text after its colon. The brackets of an IPv6 address are part of the host.
fn split(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let end = if authority.starts_with('[') {
        authority.find(']').ok_or(NOT_A_HOST)? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(NOT_A_HOST),
    }
}

/// `u16::from_str` also accepts a plus sign.
fn port_number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok().filter(|port| *port > 0))?
}

/// Names may contain underscores: service meshes use them.
fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return ipv6(host).is_some();
    }
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if host.len() > MAX_NAME || !host.split('.').all(is_label) {
        return false;
    }
    // Resolvers read `127.1` and `2130706433` as IPv4 addresses. No top-level domain is a number.
    let last = host.rsplit('.').next().unwrap_or(host);
    !last.bytes().all(|b| b.is_ascii_digit()) || host.parse::<Ipv4Addr>().is_ok()
}

pub(super) fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn trim_host(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

pub(super) fn same_host(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || matches!((ipv6(a), ipv6(b)), (Some(a), Some(b)) if a == b)
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
