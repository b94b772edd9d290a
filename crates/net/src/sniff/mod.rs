//! Protocol detection: what a client speaks on a connection, told by its first bytes, or by its silence when the server
//! has to speak first. The reasons are in `docs/adr/0013-arrivals.md`.
//!
//! [`Classifier`] decides without I/O; [`sniff`] reads for it and keeps what was read.

mod classify;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};

pub use self::classify::{Classifier, ClientHello, SNIFF_MAX};
use crate::buffer::Buffer;
use crate::{Io, NetError, Timer};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TLS: a ClientHello has come.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// Anything else.
    Bytes,
}

/// How a listener, or a port behind it, learns what is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// It is configured; nothing is read. [`Protocol::Bytes`] makes the port opaque.
    Declared(Protocol),
    /// The first bytes tell.
    Sniff(SniffTimeouts),
}

/// Limits of the time that [`sniff`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SniffTimeouts {
    /// How long a client may send nothing before the connection counts as one where the server speaks first.
    pub silence_ms: u64,
    /// How long the bytes that a decision needs may take once the first one has come.
    pub unfinished_ms: u64,
}

impl Default for SniffTimeouts {
    fn default() -> Self {
        Self { silence_ms: 500, unfinished_ms: 2_000 }
    }
}

/// Ports of protocols in which the server speaks first: FTP, SSH, SMTP, POP3, NNTP, IMAP, message submission, MySQL,
/// Galera and VNC.
pub const SERVER_FIRST_PORTS: &[u16] = &[21, 22, 25, 110, 119, 143, 587, 3306, 4444, 5900];

impl Detection {
    /// The default for connections to this port: those on which servers usually speak first do not wait for the client.
    pub fn for_port(port: u16, timeouts: SniffTimeouts) -> Self {
        if SERVER_FIRST_PORTS.contains(&port) { Self::Declared(Protocol::Bytes) } else { Self::Sniff(timeouts) }
    }
}

/// What a protocol is known by.
///
/// A client chooses whether it speaks, so [`Evidence::Silence`] and [`Evidence::Unfinished`] must not open what a policy
/// for HTTP forbids: where there is such a policy and nothing for bytes, the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The configuration.
    Declared,
    /// The bytes.
    Content,
    /// The client sent nothing in time: probably the server speaks first.
    Silence,
    /// The client began to send and did not go on in time, or not at all.
    Unfinished,
}

/// The outcome of [`sniff`].
#[derive(Debug)]
pub struct Sniffed {
    /// What is spoken.
    pub protocol: Protocol,
    /// How that is known.
    pub evidence: Evidence,
    /// What was read: it comes before everything that is still to be read.
    pub prefix: Buffer,
    /// What the ClientHello says, for [`Protocol::Tls`] by [`Evidence::Content`].
    pub hello: Option<ClientHello>,
}

/// Finds out what is spoken on `io`. It takes no longer than the sum of the timeouts, and does not fail when they are
/// over: the connection is then one of [`Protocol::Bytes`]. With [`Detection::Declared`] nothing is read.
///
/// # Errors
/// When the connection breaks. Its end is none: a client may send nothing and still expect an answer.
pub async fn sniff(io: &mut Io, detection: Detection, timer: &Timer) -> Result<Sniffed, NetError> {
    let mut prefix = Buffer::default();
    let timeouts = match detection {
        Detection::Declared(protocol) => {
            return Ok(Sniffed { protocol, evidence: Evidence::Declared, prefix, hello: None });
        }
        Detection::Sniff(timeouts) => timeouts,
    };
    let mut classifier = Classifier::default();
    timer.arm(timeouts.silence_ms);
    let outcome = std::future::poll_fn(|cx| {
        loop {
            let silent = prefix.is_empty();
            match poll_read(io, cx, &mut prefix) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok((Protocol::Bytes, Evidence::Unfinished))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if timer.poll_expired(cx) => {
                    let evidence = if silent { Evidence::Silence } else { Evidence::Unfinished };
                    return Poll::Ready(Ok((Protocol::Bytes, evidence)));
                }
                Poll::Pending => return Poll::Pending,
            }
            if let Some(protocol) = classifier.classify(prefix.filled()) {
                return Poll::Ready(Ok((protocol, Evidence::Content)));
            }
            if silent {
                timer.arm(timeouts.unfinished_ms);
            }
        }
    })
    .await;
    timer.disarm();
    let (protocol, evidence) = outcome?;
    Ok(Sniffed { protocol, evidence, prefix, hello: classifier.take_hello() })
}

/// Reads more into `prefix`, which has no memory while nothing came.
fn poll_read(io: &mut Io, cx: &mut Context<'_>, prefix: &mut Buffer) -> Poll<Result<usize, NetError>> {
    let Some(room) = prefix.room(SNIFF_MAX) else { return Poll::Ready(Err(NetError::BufferFull)) };
    let mut buf = ReadBuf::new(room);
    let poll = Pin::new(io).poll_read(cx, &mut buf);
    let count = buf.filled().len();
    if count == 0 {
        prefix.release();
    } else {
        prefix.advance(count);
    }
    ready!(poll).map_err(NetError::Io)?;
    Poll::Ready(Ok(count))
}
