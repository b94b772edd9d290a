//! Records for features that configuration files cannot express, and the settings of a node.

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_ir::{Backend, Host, HttpVersion, Id, Limits, Listener, ListenerKind, NodeSettings, Origin, Target};

/// The origin of a record.
pub(crate) fn origin(kind: &str, id: Id) -> Origin {
    Origin::new("test", kind, id)
}

/// A backend with one address, over HTTP/1.1.
pub(crate) fn backend(id: Id, address: SocketAddr) -> Backend {
    let target = Target::Host(Host { host: address.ip().to_string().into(), port: address.port() });
    Backend { origin: origin("services", id), http: Some(HttpVersion::H1), target, ..Backend::default() }
}

/// A node with a listener for plain HTTP and one for its status, each on a port that the system assigns.
pub(crate) fn node() -> Arc<NodeSettings> {
    let address = ([127, 0, 0, 1], 0).into();
    let listener =
        |name: &str, kind| Listener { name: name.into(), address, kind, http2: false, ..Listener::default() };
    let listeners = vec![listener("proxy", ListenerKind::Http), listener("status", ListenerKind::Status)];
    Arc::new(NodeSettings { listeners, limits: Limits::default(), ..NodeSettings::default() })
}
