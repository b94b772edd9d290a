//! Classifies the first bytes of a connection, without I/O.

use cardinal_http::is_token;

use super::Protocol;
use crate::client_hello::{self, Hello, Reader};

/// Maximum number of bytes until a decision.
pub const SNIFF_MAX: usize = client_hello::MAX;

/// The connection preface of an HTTP/2 client with prior knowledge (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum number of line end bytes before a request line, as in the HTTP/1 codec (RFC 9112 section 2.2).
const BLANK_MAX: usize = 64;

/// The server name and ALPN protocols of a TLS client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower-case.
    pub sni: Option<String>,
    /// Protocols offered by ALPN.
    pub alpn: Vec<Vec<u8>>,
}

/// Classifies the first bytes of a connection, which may arrive in parts. The result depends on the bytes alone, not on
/// the parts, and is available after at most [`SNIFF_MAX`] bytes. Each byte is read once.
///
/// Everything that the HTTP/1 codec accepts is [`Protocol::Http1`]. So is much that it rejects, such as a request line
/// with tabs or with an unknown version: lenient servers accept it, and it must not bypass the HTTP policies as a byte
/// stream.
#[derive(Debug, Default)]
pub struct Classifier {
    /// Number of bytes read.
    seen: usize,
    /// Start of the first line.
    line: usize,
    part: Part,
    tls: Option<Box<Reader>>,
    hello: Option<ClientHello>,
}

/// Part of an HTTP/1 request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Line ends before the request line.
    #[default]
    Blank,
    Method,
    /// The rest of the line after the method.
    Rest,
}

impl Classifier {
    /// Continues with `bytes`: all bytes since the start of the connection. Returns the protocol, or `None` if more
    /// bytes are needed.
    pub fn classify(&mut self, bytes: &[u8]) -> Option<Protocol> {
        let bytes = bytes.get(..SNIFF_MAX).unwrap_or(bytes);
        match bytes {
            [] => None,
            [22, ..] => self.classify_tls(bytes),
            _ if bytes.starts_with(PREFACE) => Some(Protocol::Http2),
            _ if PREFACE.starts_with(bytes) => None,
            _ => self.classify_line(bytes),
        }
    }

    /// The ClientHello, once the protocol is [`Protocol::Tls`].
    pub fn take_hello(&mut self) -> Option<ClientHello> {
        self.hello.take()
    }

    fn classify_tls(&mut self, bytes: &[u8]) -> Option<Protocol> {
        match self.tls.get_or_insert_default().read(bytes) {
            Hello::Partial => None,
            Hello::NotTls => Some(Protocol::Bytes),
            Hello::Complete { sni, alpn } => {
                self.hello = Some(ClientHello { sni, alpn });
                Some(Protocol::Tls)
            }
        }
    }

    /// A line is an HTTP request line if it has a method, white space, and an HTTP version at its end.
    fn classify_line(&mut self, bytes: &[u8]) -> Option<Protocol> {
        while let Some(byte) = bytes.get(self.seen) {
            self.part = match (self.part, *byte) {
                (Part::Blank, b'\r' | b'\n') if self.seen < BLANK_MAX => Part::Blank,
                (Part::Blank, byte) if is_token(&[byte]) => {
                    self.line = self.seen;
                    Part::Method
                }
                (Part::Method, byte) if is_token(&[byte]) => Part::Method,
                (Part::Method, byte) if is_space(byte) => Part::Rest,
                (Part::Rest, b'\n') => {
                    let line = bytes.get(self.line..self.seen).unwrap_or_default();
                    return Some(if ends_with_version(line) { Protocol::Http1 } else { Protocol::Bytes });
                }
                (Part::Rest, byte) if is_space(byte) || !byte.is_ascii_control() => Part::Rest,
                (Part::Blank | Part::Method | Part::Rest, _) => return Some(Protocol::Bytes),
            };
            self.seen += 1;
        }
        if bytes.len() < SNIFF_MAX {
            return None;
        }
        // A target that is too long is rejected by the HTTP/1 codec.
        Some(if self.part == Part::Rest { Protocol::Http1 } else { Protocol::Bytes })
    }
}

/// White space between the words of a request line, as accepted by lenient servers (RFC 9112 section 3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

fn ends_with_version(line: &[u8]) -> bool {
    let last = line.split(|byte| is_space(*byte)).rfind(|word| !word.is_empty()).unwrap_or_default();
    last.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}
