//! Hosts and addresses, as `kong/tools/ip.lua` sees them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A name.
    Name,
}

/// A host taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetHost {
    /// What it is.
    pub kind: HostKind,
    /// The name as written; addresses in canonical text, IPv6 expanded to eight groups of four digits.
    pub host: String,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// Takes `name`, `name:port`, `v4`, `v4:port`, `v6`, `[v6]`, `[v6]:port` apart.
///
/// # Errors
/// `invalid port number`, or what is wrong with the host.
pub fn normalize_host(text: &str) -> Result<NetHost, String> {
    let colons = text.bytes().filter(|b| *b == b':').count();
    if colons > 1 {
        return normalize_v6(text);
    }
    let digits = text.bytes().filter(|b| *b != b':').all(|b| b.is_ascii_digit() || b == b'.');
    if digits && text.bytes().any(|b| b != b':') { normalize_v4(text) } else { normalize_name(text) }
}

fn port_of(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "invalid port number".to_owned())
}

fn normalize_v4(text: &str) -> Result<NetHost, String> {
    let bad = || format!("invalid ipv4 address: {text}");
    let (host, port) = match text.split_once(':') {
        Some((_, "")) => return Err(bad()),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let mut octets = [0_u8; 4];
    let mut parts = host.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| (1..=3).contains(&p.len())).ok_or_else(bad)?;
        *octet = part.parse().map_err(|_| bad())?;
    }
    if parts.next().is_some() {
        return Err(bad());
    }
    let port = port.map(port_of).transpose()?;
    Ok(NetHost { kind: HostKind::V4, host: Ipv4Addr::from(octets).to_string(), port })
}

fn normalize_v6(text: &str) -> Result<NetHost, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => {
            let digits = rest.strip_prefix(':').filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
            (host, Some(port_of(digits.ok_or("invalid ipv6 address")?)?))
        }
        None => (text, None),
    };
    let address: Ipv6Addr = host.parse().map_err(|_| format!("invalid ipv6 address: {text}"))?;
    let groups: Vec<String> = address.segments().iter().map(|s| format!("{s:04x}")).collect();
    Ok(NetHost { kind: HostKind::V6, host: groups.join(":"), port })
}

fn normalize_name(text: &str) -> Result<NetHost, String> {
    let bad = || format!("invalid hostname: {text}");
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port_of(port)?))
        }
        _ => (text, None),
    };
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || !name.bytes().all(ok) {
        return Err(bad());
    }
    let last = name.split('.').count() - 1;
    for (i, label) in name.split('.').enumerate() {
        if label.ends_with('-') || (label.is_empty() && i != last) {
            return Err(bad());
        }
    }
    Ok(NetHost { kind: HostKind::Name, host: name.to_owned(), port })
}

/// Whether the text is an IP address.
pub fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether the text is an IP address or a network. Bits after the prefix may be set.
pub fn is_ip_or_cidr(text: &str) -> bool {
    match text.split_once('/') {
        None => is_ip(text),
        Some((_, bits)) => bits.bytes().all(|b| b.is_ascii_digit()) && text.parse::<ipnet::IpNet>().is_ok(),
    }
}

pub(super) fn check_ip(text: &str) -> Result<(), String> {
    if is_ip(text) { Ok(()) } else { Err(format!("not an ip address: {text}")) }
}

pub(super) fn check_ip_or_cidr(text: &str) -> Result<(), String> {
    if is_ip_or_cidr(text) { Ok(()) } else { Err(format!("invalid ip or cidr range: '{text}'")) }
}

/// No port allowed; any failure of the host reads `invalid value`.
fn without_port(shown: &str, text: &str, only_name: bool) -> Result<(), String> {
    match normalize_host(text) {
        Err(e) if e == "invalid port number" => Err("must not have a port".to_owned()),
        Err(_) => Err(format!("invalid value: {shown}")),
        Ok(host) if only_name && host.kind != HostKind::Name => Err("must not be an IP".to_owned()),
        Ok(host) if host.port.is_some() => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

pub(super) fn check_host(text: &str) -> Result<(), String> {
    without_port(text, text, false)
}

pub(super) fn check_sni(text: &str) -> Result<(), String> {
    without_port(text, text, true)
}

pub(super) fn check_host_with_port(text: &str) -> Result<(), String> {
    normalize_host(text).map(drop)
}

pub(super) fn check_route_host(text: &str) -> Result<(), String> {
    check_host_with_port(&text.replace('*', "abc"))
}

pub(super) fn check_wildcard_host(text: &str) -> Result<(), String> {
    let Some(at) = text.find('*') else { return without_port(text, text, true) };
    if at != 0 && at + 1 != text.len() {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    if text.matches('*').count() > 1 {
        return Err("only one wildcard must be specified".to_owned());
    }
    let plain = text.replace('*', "wildcard");
    without_port(&plain, &plain, true)
}
