//! Which issuers are reached without the proxy.

use std::net::IpAddr;

use http::Uri;

use crate::error::ConfigError;

/// The entries of one list or of several.
#[derive(Default)]
pub(super) struct NoProxy(Vec<Entry>);

struct Entry {
    hosts: Hosts,
    /// Any, where none is written.
    port: Option<u16>,
}

enum Hosts {
    All,
    /// This name and all that is below it; in lower case, without a dot at either end.
    Named(String),
    /// The addresses that begin with as many bits as this one.
    Within(IpAddr, u8),
}

impl NoProxy {
    /// Adds a list. `field` is what its errors begin with: an entry that is not understood would be passed over otherwise,
    /// and the request go where it must not.
    pub(super) fn add(mut self, field: &str, list: &str) -> Result<Self, ConfigError> {
        // No host has white space in it, and curl takes it for a comma.
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        for (at, entry) in entries.enumerate() {
            let entry = Entry::read(entry).ok_or_else(|| {
                let reason = format!("entry {} is not a host, an address or a network", at + 1);
                ConfigError::new(field, reason).with_hint(
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
        // An IPv6 address without brackets has colons, and none of them is before a port.
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
            // An address is looked at as IPv4 where it is one that is dressed as IPv6.
            let bare = network.to_canonical();
            let bits = if bare.is_ipv4() == network.is_ipv4() { bits } else { bits.checked_sub(96)? };
            return Some(Self::Within(bare, bits));
        }
        address(&canonical(text)).map(|address| Self::Within(address, width(address)))
    }

    fn named(text: &str) -> Option<Self> {
        let name = canonical(text);
        let name = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(&name);
        let good = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        // What ends in a number is an address, or is meant to be one: `10.0.` or `.0.0.1`.
        let number = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (name.split('.').all(good) && !number).then(|| Self::Named(name.to_owned()))
    }
}

/// Neither case nor the dot of a name that is complete tells two hosts apart (RFC 1034 section 3.1).
fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// With the brackets of a URI or without; one of IPv4 that is dressed as IPv6 is itself.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(text).parse().ok()?;
    (bare.is_none() || address.is_ipv6()).then(|| address.to_canonical())
}

/// A sign is no part of a port or of a length.
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
