//! Connections of listeners for HTTP only: TLS, unless the first byte is that of clear text.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_net::buffer::Buffer;
use cardinal_net::h1::H1;
use cardinal_net::{ByteStream, Io};
use cardinal_sdk::{Client, TlsAlert};
use tokio::net::TcpStream;

use crate::arrival::{AcceptedTls, Arrived, ConnectionInfo, ConnectionTls, accept_tls, handshake_failed};
use crate::certificates::{self, Answer, Handshake};
use crate::http::{serve_h1, serve_h2};
use crate::worker::Worker;

/// Serves HTTP on a listener for HTTP only.
pub(super) async fn serve(worker: Rc<Worker>, tcp: TcpStream, mut client: Client, mut arrived: Arrived) {
    let mut info = arrived.info(&client);
    info.tls = arrived.listener.tls.is_some();
    let tls = match info.tls {
        false => ConnectionTls::Clear,
        true => match arrived.tls(&worker.plan()) {
            Some(tls) => tls,
            None => return,
        },
    };
    let accepted = match &tls {
        ConnectionTls::Clear => Accepted::Clear(tcp),
        tls => match Box::pin(handshake(&worker, tls, tcp, &client, &arrived)).await {
            Some(accepted) => accepted,
            None => return,
        },
    };
    drop(tls);
    match accepted {
        Accepted::Clear(tcp) => {
            info =
                ConnectionInfo { tls: false, plain_on_tls: info.tls && !allows_clear_text(&worker, &arrived), ..info };
            let entry = arrived.register(&worker, &client);
            drop(arrived);
            let h1 = Box::new(H1::new(Io::Tcp(tcp), b""));
            entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, info))).await;
        }
        Accepted::Tls(accepted) => {
            arrived.verification = Some(accepted.verification);
            info.verification = arrived.verification;
            client.peer_identity = accepted.peer;
            let h2 = accepted.info.alpn.as_deref() == Some("h2");
            client.tls = Some(Arc::new(accepted.info));
            let entry = arrived.register(&worker, &client);
            drop(arrived);
            let io = Io::ServerTls(accepted.stream);
            if h2 {
                entry.unless_revoked(Box::pin(serve_h2(worker, io, Buffer::default(), client, info))).await;
            } else {
                let h1 = Box::new(H1::new(io, b""));
                entry.unless_revoked(Box::pin(serve_h1(worker, h1, client, info))).await;
            }
        }
    }
}

/// Whether plain HTTP is served on a listener with TLS, instead of being refused.
fn allows_clear_text(worker: &Worker, arrived: &Arrived) -> bool {
    arrived.tls(&worker.plan()).is_some_and(|tls| tls.allows_clear_text())
}

/// The result of the attempt to accept TLS.
enum Accepted {
    Tls(Box<AcceptedTls>),
    /// The client sent something other than a TLS handshake first.
    Clear(TcpStream),
}

/// Performs the TLS handshake with a client, within its timeout. Returns `None` if it failed (which has been logged),
/// or if it only served to prove control of a name.
async fn handshake(
    worker: &Worker,
    tls: &ConnectionTls,
    tcp: TcpStream,
    client: &Client,
    arrived: &Arrived,
) -> Option<Accepted> {
    let outcome = if certificates::are_asked(&worker.plan(), tls, &arrived.listener) {
        Box::pin(ask_and_accept(&Handshake { worker, tls, client, arrived }, tcp)).await
    } else {
        arrived.in_time(worker, peek_and_accept(tls, tcp)).await.map(|outcome| outcome.map(Some))
    };
    match outcome {
        Some(Ok(accepted)) => accepted,
        outcome => {
            let error = outcome.and_then(Result::err);
            handshake_failed(worker, client, &arrived.listener, &certificates::failure_text(worker, error.as_ref()));
            None
        }
    }
}

/// Performs the handshake, unless the first byte is that of plain HTTP: a method begins with a capital letter, and no
/// TLS record type has the code of a capital letter. If clear text is allowed, anything except a handshake is clear
/// text.
async fn peek_and_accept(tls: &ConnectionTls, tcp: TcpStream) -> io::Result<Accepted> {
    if is_clear_text(tls, &tcp).await? {
        return Ok(Accepted::Clear(tcp));
    }
    Ok(Accepted::Tls(Box::new(accept_tls(tls, tcp, &[]).await?)))
}

/// Like [`peek_and_accept`], if filters supply the certificate; `None` if the handshake timed out.
async fn ask_and_accept(handshake: &Handshake<'_>, tcp: TcpStream) -> Option<io::Result<Option<Accepted>>> {
    let begun = handshake.arrived.in_time(handshake.worker, begin(handshake.tls, tcp)).await?;
    let (mut stream, hello) = match begun {
        Ok(Begun::Hello(stream, hello)) => (stream, hello),
        Ok(Begun::Clear(tcp)) => return Some(Ok(Some(Accepted::Clear(tcp)))),
        Err(error) => return Some(Err(error)),
    };
    let answer = match hello {
        Some(hello) => handshake.ask(&hello, &mut stream).await,
        // No filter can be asked: the input is too long, or not a handshake.
        None => Answer::Refused(TlsAlert::HandshakeFailure),
    };
    let finished = handshake.finish(answer, stream).await?;
    Some(finished.map(|accepted| accepted.map(|accepted| Accepted::Tls(Box::new(accepted)))))
}

/// The start of a connection.
enum Begun {
    Clear(TcpStream),
    /// With the ClientHello, if it can be parsed.
    Hello(ByteStream, Option<cardinal_net::ClientHello>),
}

async fn begin(tls: &ConnectionTls, tcp: TcpStream) -> io::Result<Begun> {
    if is_clear_text(tls, &tcp).await? {
        return Ok(Begun::Clear(tcp));
    }
    let mut stream = ByteStream::new(Io::Tcp(tcp), Buffer::default());
    let hello = certificates::read_hello(&mut stream).await.map_err(io::Error::other)?;
    Ok(Begun::Hello(stream, hello))
}

/// Whether the first byte cannot be that of TLS.
async fn is_clear_text(tls: &ConnectionTls, tcp: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    let came = tcp.peek(&mut first).await?;
    let [byte] = first;
    let is_clear = if tls.allows_clear_text() { byte != HANDSHAKE } else { byte.is_ascii_uppercase() };
    Ok(is_clear && came == 1)
}
