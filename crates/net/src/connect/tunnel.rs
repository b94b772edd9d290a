//! Tunnels through a proxy: HTTP/1.1 `CONNECT` (RFC 9110 section 9.3.6).

use std::fmt;
use std::net::SocketAddr;

use cardinal_http::h1::{HeadError, HeadLimits, Parsed, parse_response};
use cardinal_http::{ResponseHead, is_value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::TlsTarget;
use crate::Io;

/// Limits of the proxy's response, interim responses included.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8 * 1024, line_bytes_max: 4 * 1024, header_count_max: 100 };

/// Number of bytes peeked at once.
const PIECE: usize = 1024;

/// A proxy that is used as a tunnel.
#[derive(Clone)]
pub struct Tunnel {
    /// Address of the proxy.
    pub proxy: SocketAddr,
    /// TLS with the proxy.
    pub tls: Option<TlsTarget>,
    /// Host name to send to the proxy in place of the target's address; the port is still the target's.
    pub host: Option<Box<str>>,
    /// Value of `Proxy-Authorization`.
    pub authorization: Option<Box<str>>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("proxy", &self.proxy).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why a tunnel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The proxy refused.
    #[error("the proxy refused CONNECT {target} with status {status}")]
    Refused {
        /// `host:port`.
        target: Box<str>,
        /// The status.
        status: u16,
    },
    /// The proxy closed the connection instead.
    #[error("the proxy closed the connection during CONNECT {0}")]
    Closed(Box<str>),
    /// The proxy's response is not HTTP/1, or its head exceeds the limit.
    #[error("malformed response of the proxy to CONNECT {target}: {error}")]
    Malformed {
        /// `host:port`.
        target: Box<str>,
        /// The parse error.
        error: HeadError,
    },
    /// The host or the credentials contain bytes that cannot be sent.
    #[error("{0} of the tunnel has characters that HTTP does not allow")]
    Unsendable(&'static str),
    /// The connection to the proxy failed.
    #[error("connection to the proxy during CONNECT {target}: {error}")]
    Io {
        /// `host:port`.
        target: Box<str>,
        /// The error of the system.
        #[source]
        error: std::io::Error,
    },
}

impl Tunnel {
    /// Sends a `CONNECT` request for `target` to the proxy at the other end of `io`. On success, `io` leads to the
    /// target, and no byte sent by the target has been read.
    pub(super) async fn open(&self, io: &mut Io, target: SocketAddr) -> Result<(), TunnelError> {
        let authority = self.authority(target)?;
        let broken = |error| TunnelError::Io { target: authority.clone(), error };
        io.write_all(&self.request(&authority)?).await.map_err(broken)?;
        io.flush().await.map_err(broken)?;
        let mut bytes = Vec::new();
        loop {
            let status = read_status(io, &authority, &mut bytes).await?;
            match status {
                200..300 => return Ok(()),
                100 | 102..200 => {}
                _ => return Err(TunnelError::Refused { target: authority, status }),
            }
        }
    }

    fn authority(&self, target: SocketAddr) -> Result<Box<str>, TunnelError> {
        let Some(host) = &self.host else { return Ok(target.to_string().into()) };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || !host.bytes().all(legal) {
            return Err(TunnelError::Unsendable("the host"));
        }
        Ok(format!("{host}:{}", target.port()).into())
    }

    fn request(&self, authority: &str) -> Result<Vec<u8>, TunnelError> {
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            if !is_value(value.as_bytes()) {
                return Err(TunnelError::Unsendable("Proxy-Authorization"));
            }
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Ok(request)
    }
}

/// Reads exactly one response head. `read` holds preceding interim heads, which count towards the limit.
async fn read_status(io: &mut Io, target: &str, read: &mut Vec<u8>) -> Result<u16, TunnelError> {
    let malformed = |error| TunnelError::Malformed { target: target.into(), error };
    let broken = |error| TunnelError::Io { target: target.into(), error };
    let start = read.len();
    loop {
        let before = read.len();
        let room = (LIMITS.head_bytes_max - before.min(LIMITS.head_bytes_max)).min(PIECE);
        if room == 0 {
            return Err(malformed(HeadError::TooLarge));
        }
        let mut piece = [0; PIECE];
        let piece = piece.get_mut(..room).unwrap_or_default();
        let seen = look(io, piece).await.map_err(broken)?;
        if seen == 0 {
            return Err(TunnelError::Closed(target.into()));
        }
        read.extend_from_slice(piece.get(..seen).unwrap_or_default());
        let mut head = ResponseHead::default();
        // A head ends with a line end, so a chunk without a line end need not be parsed.
        let parsed = if piece.get(..seen).is_some_and(|piece| piece.contains(&b'\n')) {
            parse_response(read.get(start..).unwrap_or_default(), &LIMITS, &mut head).map_err(malformed)?
        } else {
            Parsed::Partial
        };
        let used = match parsed {
            Parsed::Partial => seen,
            Parsed::Complete(len) => (start + len).saturating_sub(before),
        };
        if let Io::Tcp(tcp) = io {
            // The bytes were only peeked at, so this does not wait.
            tcp.read_exact(piece.get_mut(..used).unwrap_or_default()).await.map_err(broken)?;
        }
        if let Parsed::Complete(len) = parsed {
            read.truncate(start + len);
            return Ok(head.status);
        }
    }
}

/// Returns the next bytes, without consuming more than the head: TCP data is peeked; other streams have decrypted data
/// in memory and are read byte by byte.
async fn look(io: &mut Io, piece: &mut [u8]) -> std::io::Result<usize> {
    match io {
        Io::Tcp(tcp) => tcp.peek(piece).await,
        io => io.read(piece.get_mut(..1).unwrap_or_default()).await,
    }
}
