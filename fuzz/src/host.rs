//! Hosts and ports, from RFC 3986 section 3.2 and RFC 1123 section 2.1.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    V4([u8; 4]),
    V6([u16; 8]),
}

impl Host {
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::V4(octets) => octets[0] == 127,
            Self::V6(groups) => *groups == [0, 0, 0, 0, 0, 0, 0, 1],
        }
    }
}

/// `host` or `host:port`. `None` if it is anything else.
pub(crate) fn host_and_port(text: &str, default: u16) -> Option<(Host, u16)> {
    let (host, port) = if let Some(inside) = text.strip_prefix('[') {
        let (address, after) = inside.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        (Host::V6(address.segments()), port)
    } else {
        let mut parts = text.splitn(2, ':');
        (name_or_v4(parts.next()?)?, parts.next())
    };
    Some((host, port.map_or(Some(default), number)?))
}

fn number(digits: &str) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u32 = 0;
    for digit in digits.chars() {
        number = (number * 10 + digit.to_digit(10)?).min(100_000);
    }
    if (1..=65_535).contains(&number) { Some(number as u16) } else { None }
}

fn name_or_v4(text: &str) -> Option<Host> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > 253 {
        return None;
    }
    let labels: Vec<&str> = text.split('.').collect();
    for label in &labels {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        if label.chars().any(|c| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
            return None;
        }
    }
    let last = labels[labels.len() - 1];
    if last.chars().all(|c| c.is_ascii_digit()) {
        return text.parse::<Ipv4Addr>().ok().map(|address| Host::V4(address.octets()));
    }
    Some(Host::Name(text.to_lowercase()))
}
