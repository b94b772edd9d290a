//! Addresses to listen on, with their flags.

use std::net::{IpAddr, SocketAddr};

use cardinal_ir::{Listener, ListenerKind, ListenerTls};

const HTTP_FLAGS: &[&str] = &["ssl", "http2", "proxy_protocol", "deferred", "bind", "reuseport"];
const STREAM_FLAGS: &[&str] = &["udp", "ssl", "proxy_protocol", "bind", "reuseport"];

/// The listeners of one setting. `off` is none.
///
/// `reuseport`, `deferred`, `bind` and `so_keepalive` are accepted: every worker has a socket of its own and probes
/// idle peers anyway. `ipv6only` is the way IPv6 sockets work here.
pub(super) fn listeners(kind: ListenerKind, text: &str) -> Result<Vec<Listener>, String> {
    let entries = super::shapes::list(text);
    if entries.is_empty() || entries.first().is_some_and(|e| e == "off") {
        return Ok(Vec::new());
    }
    entries.iter().map(|entry| listener(kind, entry)).collect()
}

/// The addresses of the Admin API, and whether they have TLS. `off` is none.
pub(super) fn admin_listeners(text: &str) -> Result<Vec<(SocketAddr, bool)>, String> {
    let of = |listener: Listener| (listener.address, listener.tls.is_some());
    Ok(listeners(ListenerKind::Status, text)?.into_iter().map(of).collect())
}

/// Addresses without flags: their protocol is fixed.
pub(super) fn plain_addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    Ok(listeners(ListenerKind::Status, text)?.into_iter().map(|listener| listener.address).collect())
}

fn listener(kind: ListenerKind, entry: &str) -> Result<Listener, String> {
    let mut words = entry.split_whitespace();
    let address = address(words.next().unwrap_or_default())?;
    let allowed = if kind == ListenerKind::Stream { STREAM_FLAGS } else { HTTP_FLAGS };
    let label = match kind {
        ListenerKind::Http | ListenerKind::Detect => "proxy",
        ListenerKind::Stream | ListenerKind::Udp => "stream",
        ListenerKind::Status => "status",
    };
    let mut out = Listener {
        name: format!("{label} {address}").into(),
        address,
        kind,
        http2: false,
        backlog: 16_384,
        ..Listener::default()
    };
    for word in words {
        match word.split_once('=') {
            None if !allowed.contains(&word) => return Err(unknown_flag(word, allowed)),
            None => match word {
                "ssl" => out.tls = Some(ListenerTls::Node),
                "http2" => out.http2 = true,
                "proxy_protocol" => out.proxy_protocol = true,
                "udp" => out.kind = ListenerKind::Udp,
                _ => {}
            },
            Some(("backlog", n)) => out.backlog = n.parse().map_err(|_| format!("backlog={n}: expected a number"))?,
            Some(("ipv6only", "on" | "off")) | Some(("so_keepalive", _)) => {}
            Some(_) => return Err(unknown_flag(word, allowed)),
        }
    }
    if out.kind == ListenerKind::Udp {
        out.name = format!("udp {address}").into();
    }
    if out.kind == ListenerKind::Udp && (out.tls.is_some() || out.proxy_protocol) {
        return Err("udp cannot be combined with ssl or proxy_protocol".to_owned());
    }
    Ok(out)
}

/// Why an address cannot be listened on beside those of the settings before it: the kernel would distribute connections
/// between both listeners, whatever is expected of each. Port 0 is another port each time.
pub(super) fn conflict(setting: &str, listener: &Listener, others: &[(&str, Listener)]) -> Option<String> {
    let is_udp = |listener: &Listener| listener.kind == ListenerKind::Udp;
    let is_same = |other: &Listener| other.address == listener.address && is_udp(other) == is_udp(listener);
    let (first, other) = others.iter().find(|(_, other)| is_same(other)).filter(|_| listener.address.port() != 0)?;
    let address = listener.address;
    Some(match (*first == setting, flags(other) == flags(listener)) {
        (true, true) => format!("{address} is listed twice: remove one of the entries"),
        (true, false) => format!(
            "{address} is listed twice, with different flags ({} and {}): an address has one set of flags, remove one of the \
             entries or give it another port",
            flags(other),
            flags(listener)
        ),
        (false, _) => format!("{address} is already an address of {first}: give one of them another port"),
    })
}

/// The flags that tell listeners apart.
fn flags(listener: &Listener) -> String {
    let all = [
        ("ssl", listener.tls.is_some()),
        ("http2", listener.http2),
        ("proxy_protocol", listener.proxy_protocol),
        ("udp", listener.kind == ListenerKind::Udp),
    ];
    let set: Vec<&str> = all.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(" ") }
}

fn unknown_flag(word: &str, allowed: &[&str]) -> String {
    let near = cardinal_schema::suggest(word, allowed.iter().copied().chain(["backlog", "so_keepalive", "ipv6only"]));
    match near {
        Some(near) => format!("unknown flag '{word}', did you mean '{near}'?"),
        None => format!(
            "unknown flag '{word}', expected {}, backlog=N, ipv6only=on|off, so_keepalive=...",
            allowed.join(", ")
        ),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let bad = || format!("'{text}' is not <address>:<port>, such as 0.0.0.0:8000 or [::]:8000");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        Some(("localhost", port)) => {
            let port = port.parse().map_err(|_| bad())?;
            Ok(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port))
        }
        _ => Err(bad()),
    }
}
