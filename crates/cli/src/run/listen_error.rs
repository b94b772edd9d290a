//! Why an address cannot be listened on, in terms of settings and of the system.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use cardinal_ir::{Listener, ListenerKind};

/// The setting, the address, the error of the system, and what to do.
pub(super) fn text(listeners: &[Listener], name: &str, address: SocketAddr, error: &Error) -> String {
    let listener = listeners.iter().find(|listener| &*listener.name == name && listener.address == address);
    let setting = listener.map_or(name, |listener| match listener.kind {
        ListenerKind::Http | ListenerKind::Detect => "proxy_listen",
        ListenerKind::Stream | ListenerKind::Udp => "stream_listen",
        ListenerKind::Status => "status_listen",
    });
    let is_udp = listener.is_some_and(|listener| listener.kind == ListenerKind::Udp);
    let hint = match error.kind() {
        ErrorKind::AddrInUse => {
            let (option, port) = (if is_udp { 'u' } else { 't' }, address.port());
            format!("; 'ss -Hln{option}p sport = :{port}' shows the process that has it (as root, those of all users)")
        }
        ErrorKind::AddrNotAvailable => "; no network interface of this machine has the address".to_owned(),
        ErrorKind::PermissionDenied if address.port() < 1_024 => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => String::new(),
    };
    format!("{setting}: cannot listen on {address}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ListenerKind, error: ErrorKind, expect: [&str; 2]) {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = Listener { name: "a".into(), address, kind, ..Listener::default() };
        let said = text(&[listener], "a", address, &error.into());
        let [setting, hint] = expect;
        assert!(said.starts_with(&format!("{setting}: cannot listen on 127.0.0.1:80: ")), "{said}");
        assert!(said.contains(hint), "{said}");
    }

    #[test]
    fn the_setting_and_the_way_out_are_named() {
        check(ListenerKind::Http, ErrorKind::AddrInUse, ["proxy_listen", "'ss -Hlntp sport = :80'"]);
        check(ListenerKind::Udp, ErrorKind::AddrInUse, ["stream_listen", "'ss -Hlnup sport = :80'"]);
        check(ListenerKind::Status, ErrorKind::AddrNotAvailable, ["status_listen", "no network interface"]);
        check(ListenerKind::Stream, ErrorKind::PermissionDenied, ["stream_listen", "CAP_NET_BIND_SERVICE"]);
    }
}
