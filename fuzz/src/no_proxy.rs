//! The list of hosts that are reached without the proxy. The first line of the input is the list, and each other line is a
//! URI.
//!
//! The public API shows only whether a list is valid: a request would open a connection. So the file of the crate is
//! compiled here.

use std::net::IpAddr;

use http::Uri;

use crate::error::ConfigError;
use crate::run::text;
use list::NoProxy;

#[path = "../../src/token_endpoint/no_proxy.rs"]
mod list;

pub fn check(input: &[u8]) {
    let Some(input) = text(input) else {
        return;
    };
    let mut lines = input.split('\n');
    let written = lines.next().unwrap_or_default();
    let uris: Vec<Uri> = lines.filter_map(|line| line.parse().ok()).filter(|uri: &Uri| uri.host().is_some()).collect();
    let entries = entries(written);
    let found: Result<NoProxy, ConfigError> = NoProxy::default().add("no_proxy", written);
    let Ok(found) = found else {
        assert!(entries.is_none(), "{entries:?}");
        return;
    };
    let entries = entries.expect("the list has an entry that is not a host, an address or a network");
    // Two lists with the entries in two orders.
    let mut reversed: Vec<&str> = written.split(|c: char| c == ',' || c.is_whitespace()).collect();
    reversed.reverse();
    let reversed = reversed.join(" ,");
    let second = NoProxy::default().add("no_proxy", &reversed).and_then(|list| list.add("no_proxy", "")).unwrap();
    for uri in uris {
        let expected = entries.iter().any(|entry| entry.matches(&uri));
        assert_eq!(found.lists(&uri), expected, "{uri}");
        assert_eq!(second.lists(&uri), expected, "{uri}, with the entries in reverse order");
    }
}

#[derive(Debug)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug)]
enum Hosts {
    All,
    /// The labels, the top-level domain first.
    Domain(Vec<String>),
    /// The first bits of an address: 32 bits for IPv4, 128 bits for IPv6.
    Network(Bits),
}

#[derive(Debug)]
struct Bits {
    width: usize,
    bits: String,
}

impl Entry {
    fn matches(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().to_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if self.port.is_some_and(|port| port != uri.port_u16().unwrap_or(443)) {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Domain(labels) => {
                let requested: Vec<&str> = host.split('.').rev().collect();
                requested.len() >= labels.len() && labels.iter().zip(requested).all(|(a, b)| a == b)
            }
            Hosts::Network(network) => address(host)
                .is_some_and(|address| address.width == network.width && address.bits.starts_with(&network.bits)),
        }
    }
}

fn entries(list: &str) -> Option<Vec<Entry>> {
    let parts = list.split([',', ' ']).flat_map(str::split_whitespace);
    parts.map(entry).collect()
}

fn entry(text: &str) -> Option<Entry> {
    if text == "*" {
        return Some(Entry { hosts: Hosts::All, port: None });
    }
    if let Some(hosts) = network(text) {
        return Some(Entry { hosts: Hosts::Network(hosts), port: None });
    }
    let (host, port) = match text.rfind(':') {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    };
    let port = match port {
        Some(digits) if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok()?)
        }
        Some(_) => return None,
        None => None,
    };
    let hosts = match network(host) {
        Some(bits) => Hosts::Network(bits),
        None => Hosts::Domain(domain(host)?),
    };
    Some(Entry { hosts, port })
}

fn domain(text: &str) -> Option<Vec<String>> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let text = match text.strip_prefix('*') {
        Some(rest) => rest.strip_prefix('.')?,
        None => text.strip_prefix('.').unwrap_or(text),
    };
    let labels: Vec<String> = text.rsplit('.').map(str::to_owned).collect();
    for label in &labels {
        if label.is_empty() || label.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
            return None;
        }
    }
    if labels[0].chars().all(|c| c.is_ascii_digit()) { None } else { Some(labels) }
}

/// `10.0.0.0/8`, or one address with or without brackets.
fn network(text: &str) -> Option<Bits> {
    let Some((address, prefix)) = text.split_once('/') else {
        return self::address(text.strip_suffix('.').unwrap_or(text));
    };
    if prefix.is_empty() || prefix.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    let prefix: usize = prefix.parse::<u8>().ok()?.into();
    let address: IpAddr = address.parse().ok()?;
    let written = if address.is_ipv4() { 32 } else { 128 };
    if prefix > written {
        return None;
    }
    let all = bits(address);
    // An IPv4 address in IPv6 has 96 bits before it.
    let prefix = prefix.checked_sub(written - all.width)?;
    Some(Bits { width: all.width, bits: all.bits[..prefix].to_owned() })
}

fn address(text: &str) -> Option<Bits> {
    match text.strip_prefix('[') {
        Some(inside) => {
            let address: IpAddr = inside.strip_suffix(']')?.parse().ok()?;
            address.is_ipv6().then(|| bits(address))
        }
        None => text.parse().ok().map(bits),
    }
}

/// The bits of an address. An IPv4 address in IPv6 (`::ffff:10.0.0.1`) is an IPv4 address.
fn bits(address: IpAddr) -> Bits {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => match address.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => vec![a, b, c, d],
            octets => octets.to_vec(),
        },
    };
    Bits { width: octets.len() * 8, bits: octets.iter().map(|octet| format!("{octet:08b}")).collect() }
}
