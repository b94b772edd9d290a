//! What a stream listener with TLS does first: read the ClientHello, choose the route by it, and terminate TLS or not.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Wire;
use cardinal_net::buffer::Buffer;
use cardinal_net::client_hello::{self, Hello};
use cardinal_net::{ByteStream, Io, NetError, Timer};

use super::session::Session;
use crate::arrival::{AcceptedTls, ConnectionTls, accept_tls};

/// Takes the route that the connection leads to, and gives the bytes of the session: the client's as they are in clear
/// text and for `tls_passthrough`, decrypted ones otherwise.
///
/// The route of the highest rank decides, be it one that passes TLS through or one that terminates it. Without a route the
/// client is not even answered (Kong: both are settled before TLS).
pub(super) async fn accept(session: &mut Session, down: ByteStream, tls: ConnectionTls) -> Result<ByteStream, Failure> {
    if matches!(tls, ConnectionTls::Clear) {
        session.take_route(Wire::Tcp, session.find(Wire::Tcp, None))?;
        return Ok(down);
    }
    let timeout_ms = session.plan.node().limits.handshake_timeout_ms;
    let timer = Timer::new(&session.worker.wheel);
    let late =
        || Err(Failure::new(FailureKind::ClientTls, "no TLS handshake").within("client_handshake_timeout", timeout_ms));
    timer.limit(timeout_ms, Box::pin(handshake(session, down, &tls))).await.unwrap_or_else(late)
}

async fn handshake(session: &mut Session, mut down: ByteStream, tls: &ConnectionTls) -> Result<ByteStream, Failure> {
    let sni = match read_hello(&mut down).await? {
        Found::Hello(sni) => sni,
        Found::ClearText if tls.allows_clear_text() => {
            session.take_route(Wire::Tcp, session.find(Wire::Tcp, None))?;
            return Ok(down);
        }
        Found::ClearText => return Err(Failure::new(FailureKind::ClientTls, "not a TLS handshake")),
    };
    let passthrough = session.find(Wire::TlsPassthrough, sni.as_deref());
    let terminated = session.find(Wire::Tls, sni.as_deref());
    // A handshake without a name counts as plain TCP in Kong's router, which does not look at SNI conditions then.
    let terminated = terminated.or_else(|| if sni.is_none() { session.find(Wire::Tcp, None) } else { None });
    if let Some(first) = passthrough
        && terminated.is_none_or(|second| first.rank > second.rank)
    {
        session.exchange().client.passed_server_name = sni.map(Into::into);
        session.take_route(Wire::TlsPassthrough, passthrough)?;
        return Ok(down);
    }
    session.take_route(Wire::Tls, terminated)?;
    terminate(session, down, tls).await
}

/// What a connection begins with.
enum Found {
    /// A ClientHello with this server name, lower-case.
    Hello(Option<String>),
    /// Something else.
    ClearText,
}

/// Reads until the ClientHello is whole; it stays unread in the connection.
async fn read_hello(down: &mut ByteStream) -> Result<Found, Failure> {
    poll_fn(|cx| {
        loop {
            match client_hello::parse(down.unread()) {
                Hello::Complete { sni, .. } => return Poll::Ready(Ok(Found::Hello(sni))),
                Hello::NotTls => return Poll::Ready(Ok(Found::ClearText)),
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
async fn terminate(session: &mut Session, down: ByteStream, tls: &ConnectionTls) -> Result<ByteStream, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::ClientTls, "TLS handshake with the client").with_source(NetError::Io(error))
    };
    let (io, hello) = down.into_parts();
    let Io::Tcp(tcp) = io else { return Err(Failure::new(FailureKind::ClientTls, "TLS within TLS")) };
    let AcceptedTls { stream, info, peer, .. } = accept_tls(tls, tcp, hello.filled()).await.map_err(failed)?;
    let client = &mut session.exchange().client;
    (client.tls, client.peer_identity) = (Some(Arc::new(info)), peer);
    Ok(ByteStream::new(Io::ServerTls(stream), Buffer::default()))
}
