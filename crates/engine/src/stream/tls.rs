//! What a stream listener with TLS does first: read the ClientHello, choose the route by it, and open the TLS or not.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Wire;
use cardinal_net::client_hello::{self, Hello};
use cardinal_net::h1::H1;
use cardinal_net::{Io, NetError, Timer};
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::session::Session;
use crate::accept::{resumed_error, tls_info};

/// Takes the route that the ClientHello leads to, and gives the bytes of the session: the client's as they are for
/// `tls_passthrough`, opened ones otherwise.
///
/// The route of the highest rank decides, be it one that passes through or one that opens. Without a route the client
/// is not even answered (Kong: both are settled before TLS).
pub(super) async fn accept(session: &mut Session, tcp: TcpStream) -> Result<H1, Failure> {
    let timeout_ms = session.plan.node().limits.handshake_timeout_ms;
    let timer = Timer::new(&session.worker.wheel);
    let late =
        || Err(Failure::new(FailureKind::ClientTls, "no TLS handshake").within("client_handshake_timeout", timeout_ms));
    timer.limit(timeout_ms, handshake(session, tcp)).await.unwrap_or_else(late)
}

async fn handshake(session: &mut Session, tcp: TcpStream) -> Result<H1, Failure> {
    let mut down = H1::new(Io::Tcp(tcp), b"");
    let sni = read_hello(&mut down).await?;
    let passthrough = session.find(Wire::TlsPassthrough, sni.as_deref());
    let opened = session.find(Wire::Tls, sni.as_deref());
    // A handshake without a name counts as plain TCP in Kong's router, which does not look at SNI conditions then.
    let opened = opened.or_else(|| if sni.is_none() { session.find(Wire::Tcp, None) } else { None });
    if let Some(first) = passthrough
        && opened.is_none_or(|second| first.rank > second.rank)
    {
        session.take_route(Wire::TlsPassthrough, passthrough)?;
        return Ok(down);
    }
    session.take_route(Wire::Tls, opened)?;
    open(session, down).await
}

/// Reads until the ClientHello is whole; it stays unread in the connection. Its server name, lower-case.
async fn read_hello(down: &mut H1) -> Result<Option<String>, Failure> {
    poll_fn(|cx| {
        loop {
            match client_hello::parse(down.unread()) {
                Hello::Complete { sni, .. } => return Poll::Ready(Ok(sni)),
                Hello::NotTls => return Poll::Ready(Err(Failure::new(FailureKind::ClientTls, "not a TLS handshake"))),
                Hello::Partial => {}
            }
            match ready!(down.poll_read_more(cx, client_hello::MAX)) {
                Ok(0) => return Poll::Ready(Err(Failure::new(FailureKind::ClientClosed, "before its TLS handshake"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(read_failure(error))),
            }
        }
    })
    .await
}

fn read_failure(error: NetError) -> Failure {
    let kind = if error.is_disconnect() { FailureKind::ClientClosed } else { FailureKind::ClientTls };
    Failure::new(kind, "reading a TLS handshake").with_source(error)
}

/// Ends the client's TLS here.
async fn open(session: &mut Session, down: H1) -> Result<H1, Failure> {
    let (io, hello) = down.into_parts();
    let Io::Tcp(tcp) = io else { return Err(Failure::new(FailureKind::ClientTls, "TLS within TLS")) };
    let tls = session.plan.tls.stream.clone();
    let accepted =
        TlsAcceptor::from(Arc::clone(tls.config())).accept_with(tcp, |connection| feed(connection, hello.filled()));
    let failed =
        |error| Failure::new(FailureKind::ClientTls, "TLS handshake with the client").with_source(NetError::Io(error));
    let stream = accepted.await.map_err(failed)?;
    tls.verify_resumed(stream.get_ref().1).map_err(|error| failed(resumed_error(error)))?;
    session.exchange().client.tls = Some(Arc::new(tls_info(stream.get_ref().1)));
    Ok(H1::new(Io::ServerTls(Box::new(stream)), b""))
}

/// Gives a TLS connection what was read of its peer. An error is met again, and answered with an alert, when the
/// handshake goes on.
fn feed(connection: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let read = connection.read_tls(&mut bytes);
        if !matches!(read, Ok(1..)) || connection.process_new_packets().is_err() {
            return;
        }
    }
}
