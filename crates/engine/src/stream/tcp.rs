//! TCP connections of stream listeners: bytes both ways, TLS or not on either side.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::Picked;
use cardinal_http::Failure;
use cardinal_ir::{Listener, Wire};
use cardinal_net::h1::H1;
use cardinal_net::{Io, Stage, TlsTarget, connect};
use cardinal_sdk::{Admit, Client, Exchange};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::session::{Chosen, Reached, Session};
use super::tls;
use crate::http::{connect_failure, tunnel};
use crate::plan::{BackendPlan, RoutePlan};
use crate::worker::Worker;

/// Serves one connection of a stream listener to its end. `client` has the connection's addresses, or those of its
/// PROXY protocol header, which has been read.
///
/// A node that drains leaves it alone: a byte stream has no end that one could wait for but its own, so it goes on
/// until the drain budget is spent.
pub(crate) async fn serve_tcp(worker: Rc<Worker>, tcp: TcpStream, client: Client, listener: Rc<Listener>) {
    let wire = if listener.tls { Wire::Tls } else { Wire::Tcp };
    let mut session = Session::start(&worker, &client, wire, listener.mapped_port);
    let Way { mut down, mut up, endpoint } = match set_up(&mut session, tcp, wire).await {
        Ok(Some(way)) => way,
        Ok(None) => return session.end(None),
        Err(failure) => return session.end(Some(&failure)),
    };
    let limits = session.tunnel_limits();
    let mut flowing = session.flow();
    let moved = tunnel(&worker, &mut down, &mut up, limits).await;
    let bytes = &mut flowing.exchange().bytes;
    (bytes.received, bytes.upstream_sent) = (moved.to_upstream, moved.to_upstream);
    (bytes.sent, bytes.upstream_received) = (moved.to_client, moved.to_client);
    endpoint.succeeded(&flowing);
    if let Some(failure) = moved.end.failure() {
        flowing.fail(&failure);
    }
    flowing.finish();
}

/// Both connections of a session.
struct Way {
    down: H1,
    up: H1,
    endpoint: Chosen,
}

/// Everything before the first byte; `None` if a filter closes the session.
async fn set_up(session: &mut Session, tcp: TcpStream, wire: Wire) -> Result<Option<Way>, Failure> {
    let down = if wire == Wire::Tls {
        tls::accept(session, tcp).await?
    } else {
        session.take_route(wire, session.find(wire, None))?;
        H1::new(Io::Tcp(tcp), b"")
    };
    if session.admit() == Admit::No {
        return Ok(None);
    }
    let Reached { transport, endpoint } = session.reach(open).await?;
    Ok(Some(Way { down, up: H1::new(transport, b""), endpoint }))
}

/// Connects to an endpoint. What passes through unopened needs no TLS of ours, whatever the backend says.
async fn open(
    route: &RoutePlan,
    backend: &BackendPlan,
    picked: &Picked,
    exchange: &Exchange,
    stage: &Stage,
) -> Result<Io, Failure> {
    let passthrough = exchange.client.wire == Wire::TlsPassthrough;
    let tls = backend
        .tls
        .as_ref()
        .filter(|_| !passthrough)
        .map(|tls| TlsTarget { config: Arc::clone(&tls.config_h1), server_name: server_name(route, picked, exchange) });
    connect(picked.address(), None, tls.as_ref(), stage).await.map(|connected| connected.io).map_err(connect_failure)
}

/// The name to ask an upstream for: the client's when the route preserves it, else the endpoint's.
fn server_name(route: &RoutePlan, picked: &Picked, exchange: &Exchange) -> ServerName<'static> {
    let asked = exchange.client.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let preserved = asked.filter(|_| route.route.rewrite.preserve_host);
    let name = preserved.unwrap_or_else(|| picked.host()).trim_end_matches('.');
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(picked.address().ip()))
}
