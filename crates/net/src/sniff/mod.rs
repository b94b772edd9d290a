//! Protocol detection: by the first bytes of a client, or by a timeout if the server has to speak first. The reasons
//! are in `docs/adr/0013-arrivals.md`.
//!
//! [`Classifier`] decides without I/O; [`sniff`] reads for it and returns the bytes read.

mod classify;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};

pub use self::classify::{Classifier, ClientHello, SNIFF_MAX};
use crate::buffer::Buffer;
use crate::{Io, NetError, Timer};

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TLS: a ClientHello was received.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// Any other protocol.
    Bytes,
}

/// How the protocol of a listener or a port is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Configured; no bytes are read. [`Protocol::Bytes`] makes the port opaque.
    Declared(Protocol),
    /// Detected from the first bytes.
    Sniff(SniffTimeouts),
}

/// Timeouts of [`sniff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SniffTimeouts {
    /// How long a client may send nothing before the server is assumed to speak first.
    pub silence_ms: u64,
    /// How long the client may take, after its first byte, to send the bytes needed for a decision.
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
    /// The default for connections to this port: if servers on the port usually speak first, the client is not waited
    /// for.
    pub fn for_port(port: u16, timeouts: SniffTimeouts) -> Self {
        if SERVER_FIRST_PORTS.contains(&port) { Self::Declared(Protocol::Bytes) } else { Self::Sniff(timeouts) }
    }
}

/// The basis of the decision.
///
/// A client can choose to send nothing, so [`Evidence::Silence`] and [`Evidence::Unfinished`] must not bypass a policy
/// for HTTP: if there is such a policy and no route for byte streams, the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The configuration.
    Declared,
    /// The bytes.
    Content,
    /// The client sent nothing before the timeout: probably the server speaks first.
    Silence,
    /// The client started sending, but did not send enough before the timeout, or closed its side.
    Unfinished,
}

/// The outcome of [`sniff`].
#[derive(Debug)]
pub struct Sniffed {
    /// The protocol.
    pub protocol: Protocol,
    /// The basis of the decision.
    pub evidence: Evidence,
    /// The bytes read: they precede all bytes that are still to be read.
    pub prefix: Buffer,
    /// The ClientHello, for [`Protocol::Tls`] by [`Evidence::Content`].
    pub hello: Option<ClientHello>,
}

/// Determines the protocol on `io`. Takes at most the sum of the timeouts, and does not fail when they expire: the
/// protocol is then [`Protocol::Bytes`]. With [`Detection::Declared`], nothing is read.
///
/// # Errors
/// If the connection fails. The end of input is not an error: a client may send nothing and still expect a response.
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

/// Reads into `prefix`, which allocates no memory until bytes arrive.
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
