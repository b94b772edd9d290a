//! TLS on stream listeners: reads the ClientHello, selects the route by it, and terminates TLS or passes it through.

use std::rc::Rc;
use std::sync::Arc;

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::Wire;
use cardinal_net::buffer::Buffer;
use cardinal_net::{ByteStream, ClientHello, Io, NetError};

use super::session::Session;
use crate::arrival::{AcceptedTls, Arrived, ConnectionTls};
use crate::certificates::{self, Answer, Handshake};

/// Selects the route of a connection, and returns the bytes of the session: unchanged for clear text and
/// `tls_passthrough`, decrypted otherwise.
///
/// The matching route of the highest rank decides whether TLS is passed through or terminated. Without a route, the
/// connection is closed without a response (as in Kong, which selects the route before TLS). Returns `None` if TLS
/// proved control of a name; the connection has ended then.
pub(super) async fn accept(
    session: &mut Session,
    down: ByteStream,
    tls: ConnectionTls,
    arrived: &mut Arrived,
) -> Result<Option<ByteStream>, Failure> {
    if matches!(tls, ConnectionTls::Clear) {
        session.take_route(Wire::Tcp, session.find(Wire::Tcp, None))?;
        return Ok(Some(down));
    }
    let worker = Rc::clone(&session.worker);
    let begun = arrived.in_time(&worker, Box::pin(begin(session, down, &tls))).await;
    let (mut down, hello) = match begun.unwrap_or_else(|| Err(late(session)))? {
        Begun::Hello(down, hello) => (down, hello),
        Begun::Settled(down) => {
            arrived.verification = tls.verification();
            return Ok(Some(down));
        }
    };
    let client = session.exchange().client.clone();
    let handshake = Handshake { worker: &worker, tls: &tls, client: &client, arrived };
    let answer = if certificates::are_asked(&session.plan, &tls, &arrived.listener) {
        Box::pin(handshake.ask(&hello, &mut down)).await
    } else {
        Answer::Configured
    };
    if matches!(answer, Answer::Left) {
        return Err(Failure::new(FailureKind::ClientClosed, "while a filter waited in the certificate phase"));
    }
    let finished = Box::pin(handshake.finish(answer, down)).await.ok_or_else(|| late(session))?;
    let accepted = finished.map_err(|error| {
        Failure::new(FailureKind::ClientTls, "TLS handshake with the client").with_source(NetError::Io(error))
    })?;
    let Some(AcceptedTls { stream, info, peer, verification }) = accepted else { return Ok(None) };
    arrived.verification = Some(verification);
    let client = &mut session.exchange().client;
    (client.tls, client.peer_identity) = (Some(Arc::new(info)), peer);
    Ok(Some(ByteStream::new(Io::ServerTls(stream), Buffer::default())))
}

fn late(session: &Session) -> Failure {
    let limit_ms = session.plan.node().limits.handshake_timeout_ms;
    Failure::new(FailureKind::ClientTls, "no TLS handshake").within("client_handshake_timeout", limit_ms)
}

/// A connection whose route is known.
enum Begun {
    /// There is no TLS to terminate.
    Settled(ByteStream),
    /// TLS is to be terminated; contains the ClientHello.
    Hello(ByteStream, ClientHello),
}

async fn begin(session: &mut Session, mut down: ByteStream, tls: &ConnectionTls) -> Result<Begun, Failure> {
    let hello = match certificates::read_hello(&mut down).await.map_err(read_failure)? {
        Some(hello) => hello,
        None if tls.allows_clear_text() => {
            session.take_route(Wire::Tcp, session.find(Wire::Tcp, None))?;
            return Ok(Begun::Settled(down));
        }
        None => return Err(Failure::new(FailureKind::ClientTls, "not a TLS handshake")),
    };
    let sni = hello.sni.as_deref();
    let passthrough = session.find(Wire::TlsPassthrough, sni);
    let terminated = session.find(Wire::Tls, sni);
    // In Kong's router, a handshake without a server name counts as plain TCP, and SNI conditions are ignored.
    let terminated = terminated.or_else(|| if sni.is_none() { session.find(Wire::Tcp, None) } else { None });
    if let Some(first) = passthrough
        && terminated.is_none_or(|second| first.rank > second.rank)
    {
        session.exchange().client.passed_server_name = sni.map(Into::into);
        session.take_route(Wire::TlsPassthrough, passthrough)?;
        return Ok(Begun::Settled(down));
    }
    session.take_route(Wire::Tls, terminated)?;
    Ok(Begun::Hello(down, hello))
}

fn read_failure(error: NetError) -> Failure {
    if matches!(error, NetError::Closed) {
        return Failure::new(FailureKind::ClientClosed, "before its TLS handshake");
    }
    let kind = if error.is_disconnect() { FailureKind::ClientClosed } else { FailureKind::ClientTls };
    Failure::new(kind, "reading a TLS handshake").with_source(error)
}
