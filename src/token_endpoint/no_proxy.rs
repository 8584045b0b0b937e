//! Which issuers the client connects to without the proxy.

use std::net::IpAddr;

use http::Uri;

use crate::error::ConfigError;

/// The entries of one or more lists.
#[derive(Default)]
pub(super) struct NoProxy(Vec<Entry>);

struct Entry {
    hosts: Hosts,
    /// `None` matches every port.
    port: Option<u16>,
}

enum Hosts {
    All,
    /// This name and all names below it. Lower case, without a dot at either end.
    Named(String),
    /// The addresses that have the first bits of this address.
    Within(IpAddr, u8),
}

impl NoProxy {
    /// Adds a list. `setting` is the name in errors.
    ///
    /// An invalid entry is an error. If it were ignored, requests would go to the proxy that must not go there.
    pub(super) fn add(mut self, setting: &str, list: &str) -> Result<Self, ConfigError> {
        // White space separates entries, as in curl.
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        for (at, entry) in entries.enumerate() {
            let entry = Entry::read(entry).ok_or_else(|| {
                let reason = format!("entry {} is not a host, an address or a network", at + 1);
                ConfigError::new(setting, reason).with_hint(
                    "write host, .domain, host:port, 10.0.0.1 or 10.0.0.0/8; * stands alone or before .domain",
                )
            })?;
            self.0.push(entry);
        }
        Ok(self)
    }

    pub(super) fn lists(&self, issuer: &Uri) -> bool {
        let host = issuer.host().unwrap_or_default();
        let name = canonical(host);
        let address = address(&name);
        let port = issuer.port_u16().unwrap_or(443);
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port)
                && match &entry.hosts {
                    Hosts::All => true,
                    Hosts::Named(domain) => {
                        name.strip_suffix(domain.as_str()).is_some_and(|left| left.is_empty() || left.ends_with('.'))
                    }
                    Hosts::Within(network, bits) => address.is_some_and(|address| is_within(address, *network, *bits)),
                }
        })
    }
}

impl Entry {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        // An IPv6 address without brackets contains colons and cannot have a port.
        if let Some(hosts) = Hosts::numeric(text) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(number(port)?)),
            None => (text, None),
        };
        let hosts = Hosts::numeric(host).or_else(|| Hosts::named(host))?;
        Some(Self { hosts, port })
    }
}

impl Hosts {
    fn numeric(text: &str) -> Option<Self> {
        if let Some((network, bits)) = text.split_once('/') {
            let (network, bits): (IpAddr, u8) = (network.parse().ok()?, number(bits)?);
            if bits > width(network) {
                return None;
            }
            // An IPv4-mapped IPv6 network is compared as IPv4.
            let canonical = network.to_canonical();
            let bits = if canonical.is_ipv4() == network.is_ipv4() { bits } else { bits.checked_sub(96)? };
            return Some(Self::Within(canonical, bits));
        }
        address(&canonical(text)).map(|address| Self::Within(address, width(address)))
    }

    fn named(text: &str) -> Option<Self> {
        let name = canonical(text);
        let name = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(&name);
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        // Text that ends in a number is meant as an address: `10.0.` or `.0.0.1`.
        let numeric = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (name.split('.').all(is_label) && !numeric).then(|| Self::Named(name.to_owned()))
    }
}

/// Host names are compared without regard to case or a trailing dot (RFC 1034 section 3.1).
fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Parses an address, with or without the brackets of a URI. An IPv4-mapped IPv6 address becomes an IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(text).parse().ok()?;
    (bare.is_none() || address.is_ipv6()).then(|| address.to_canonical())
}

/// Parses digits. `FromStr` would also accept a plus sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let number = |address| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let differ = number(address) ^ number(network);
    address.is_ipv4() == network.is_ipv4() && differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}
