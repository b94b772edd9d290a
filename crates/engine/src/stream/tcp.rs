//! Forwards TCP connections as bytes in both directions, with or without TLS on either side.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::Picked;
use cardinal_http::Failure;
use cardinal_ir::Wire;
use cardinal_net::buffer::Buffer;
use cardinal_net::{ByteStream, Io, Stage, TlsTarget, connect};
use cardinal_sdk::{Admit, Client, Exchange};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::session::{AcquiredConnection, Chosen, Session};
use super::tls;
use crate::arrival::{Arrived, ConnectionTls};
use crate::exchange::{TunnelLimits, connect_failure, tunnel};
use crate::plan::{BackendPlan, RoutePlan};
use crate::worker::Worker;

/// Serves one connection of a stream listener until it ends. `client` contains the addresses of the connection, or
/// those of its PROXY protocol header, which has already been read.
///
/// A draining node does not interrupt the session: a byte stream has no boundary at which it could be ended, so it
/// continues until the drain timeout.
pub(crate) async fn serve_tcp(worker: Rc<Worker>, tcp: TcpStream, client: Client, mut arrived: Arrived) {
    let Some(tls) = arrived.tls(&worker.plan()) else { return };
    let wire = if matches!(tls, ConnectionTls::Clear) { Wire::Tcp } else { Wire::Tls };
    let mut session = Session::start(&worker, &client, wire, &arrived.listener);
    let stream = ByteStream::new(Io::Tcp(tcp), Buffer::default());
    let down = match tls::accept(&mut session, stream, tls, &mut arrived).await {
        Ok(Some(down)) => down,
        Ok(None) => return session.end(None),
        Err(failure) => return session.end(Some(&failure)),
    };
    let client = session.exchange().client.clone();
    let entry = arrived.register(&worker, &client);
    drop(arrived);
    entry.unless_revoked(Box::pin(relay(session, down))).await;
}

/// Serves a connection of a known protocol, from which bytes may already have been read.
pub(crate) async fn serve_bytes(worker: Rc<Worker>, down: ByteStream, client: Client, arrived: Arrived, wire: Wire) {
    let mut session = Session::start(&worker, &client, wire, &arrived.listener);
    let sni = client.tls.as_ref().and_then(|tls| tls.sni.clone());
    let found = session.find(wire, sni.as_deref());
    if let Err(failure) = session.take_route(wire, found) {
        return session.end(Some(&failure));
    }
    let entry = arrived.register(&worker, &client);
    drop(arrived);
    entry.unless_revoked(Box::pin(relay(session, down))).await;
}

/// Serves a session with a known route: filters, endpoint, forwarding.
async fn relay(mut session: Session, mut down: ByteStream) {
    if session.admit() == Admit::No {
        return session.end(None);
    }
    let AcquiredConnection { transport, endpoint } = match session.acquire_connection(open).await {
        Ok(reached) => reached,
        Err(failure) => return session.end(Some(&failure)),
    };
    let (worker, limits) = (Rc::clone(&session.worker), session.tunnel_limits());
    let mut flowing = session.flow();
    pass(&worker, &mut down, transport, limits, (&mut flowing, &endpoint)).await;
    flowing.finish();
}

/// Forwards bytes in both directions until both sides have ended.
async fn pass(
    worker: &Worker,
    down: &mut ByteStream,
    transport: Io,
    limits: TunnelLimits,
    (flowing, endpoint): (&mut super::session::Flowing, &Chosen),
) {
    let mut up = ByteStream::new(transport, Buffer::default());
    let moved = tunnel(worker, down, &mut up, limits).await;
    let bytes = &mut flowing.exchange().bytes;
    (bytes.received, bytes.upstream_sent) = (moved.to_upstream, moved.to_upstream);
    (bytes.sent, bytes.upstream_received) = (moved.to_client, moved.to_client);
    endpoint.succeeded(flowing);
    if let Some(failure) = moved.end.failure() {
        flowing.fail(&failure);
    }
}

/// Connects to an endpoint. TLS that is passed through is not encrypted again, regardless of the backend's settings.
async fn open(
    route: &RoutePlan,
    backend: &BackendPlan,
    picked: &Picked,
    exchange: &Exchange,
    stage: &Stage,
) -> Result<Io, Failure> {
    let passthrough = exchange.client.wire == Wire::TlsPassthrough;
    let tls = backend.tls.as_ref().filter(|_| !passthrough).map(|tls| TlsTarget {
        config: Arc::clone(&tls.config_h1),
        server_name: server_name(route, backend, picked, exchange),
    });
    connect(picked.address(), None, tls.as_ref(), stage).await.map(|connected| connected.io).map_err(connect_failure)
}

/// The server name for the upstream: that of the backend's identity, the client's if the route preserves it, or else
/// the endpoint's.
fn server_name(route: &RoutePlan, backend: &BackendPlan, picked: &Picked, exchange: &Exchange) -> ServerName<'static> {
    let asked = exchange.client.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let preserved = asked.filter(|_| route.route.rewrite.preserve_host);
    let name = backend.server_name().or(preserved).unwrap_or_else(|| picked.host()).trim_end_matches('.');
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(picked.address().ip()))
}
