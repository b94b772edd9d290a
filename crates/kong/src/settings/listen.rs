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
