//! What a stream listener with TLS does first: read the ClientHello, choose the route by it, and terminate TLS or not.

use std::io;
use std::sync::Arc;

use cardinal_http::{Failure, FailureKind};
use cardinal_ir::{Listener, Wire};
use cardinal_net::buffer::Buffer;
use cardinal_net::{ByteStream, ClientHello, Io, NetError, Timer};

use super::session::Session;
use crate::arrival::{AcceptedTls, ConnectionTls};
use crate::certificates::{self, Answer};

/// Takes the route that the connection leads to, and gives the bytes of the session: the client's as they are in clear
/// text and for `tls_passthrough`, decrypted ones otherwise.
///
/// The route of the highest rank decides, be it one that passes TLS through or one that terminates it. Without a route the
/// client is not even answered (Kong: both are settled before TLS). `None`: TLS proved a name, and the connection is over.
pub(super) async fn accept(
    session: &mut Session,
    down: ByteStream,
    tls: ConnectionTls,
    listener: &Listener,
) -> Result<Option<ByteStream>, Failure> {
    if matches!(tls, ConnectionTls::Clear) {
        session.take_route(Wire::Tcp, session.find(Wire::Tcp, None))?;
        return Ok(Some(down));
    }
    let timeout_ms = session.plan.node().limits.handshake_timeout_ms;
    let timer = Timer::new(&session.worker.wheel);
    let late =
        || Err(Failure::new(FailureKind::ClientTls, "no TLS handshake").within("client_handshake_timeout", timeout_ms));
    if !certificates::are_asked(&session.plan, &tls, listener) {
        let all = async {
            match begin(session, down, &tls).await? {
                Begun::Settled(down) => Ok(Some(down)),
                Begun::Hello(down, _) => terminate(session, down, &tls, Answer::Configured).await,
            }
        };
        return timer.limit(timeout_ms, Box::pin(all)).await.unwrap_or_else(late);
    }
    let begun = timer.limit(timeout_ms, Box::pin(begin(session, down, &tls))).await;
    let (down, hello) = match begun {
        Some(Ok(Begun::Hello(down, hello))) => (down, hello),
        Some(Ok(Begun::Settled(down))) => return Ok(Some(down)),
        Some(Err(failure)) => return Err(failure),
        None => return late(),
    };
    let client = session.exchange().client.clone();
    let answer = Box::pin(certificates::ask(&session.worker, &tls, &client, listener, &hello)).await;
    timer.limit(timeout_ms, Box::pin(terminate(session, down, &tls, answer))).await.unwrap_or_else(late)
}

/// A connection whose route is known.
enum Begun {
    /// There is no TLS to terminate.
    Settled(ByteStream),
    /// There is, and this is its ClientHello.
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
    // A handshake without a name counts as plain TCP in Kong's router, which does not look at SNI conditions then.
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

/// Ends the client's TLS here.
async fn terminate(
    session: &mut Session,
    down: ByteStream,
    tls: &ConnectionTls,
    answer: Answer,
) -> Result<Option<ByteStream>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::ClientTls, "TLS handshake with the client").with_source(NetError::Io(error))
    };
    let (io, hello) = down.into_parts();
    let Io::Tcp(tcp) = io else { return Err(Failure::new(FailureKind::ClientTls, "TLS within TLS")) };
    let accepted = certificates::finish(answer, tls, tcp, hello.filled()).await.map_err(failed)?;
    let Some(AcceptedTls { stream, info, peer, .. }) = accepted else { return Ok(None) };
    let client = &mut session.exchange().client;
    (client.tls, client.peer_identity) = (Some(Arc::new(info)), peer);
    Ok(Some(ByteStream::new(Io::ServerTls(stream), Buffer::default())))
}
