//! Which protocol the first bytes of a connection belong to, without I/O.

use cardinal_http::is_token;

use super::Protocol;
use crate::client_hello::{self, Hello, Reader};

/// Bytes after which there is a decision in any case.
pub const SNIFF_MAX: usize = client_hello::MAX;

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of line ends before a request line, at most: as many as the HTTP/1 codec skips (RFC 9112 section 2.2).
const BLANK_MAX: usize = 64;

/// The server name and the protocols that a TLS client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower-case.
    pub sni: Option<String>,
    /// Protocols offered by ALPN.
    pub alpn: Vec<Vec<u8>>,
}

/// Classifies the first bytes of a connection, which may come in any pieces. The result depends on the bytes alone, not
/// on the pieces, and is there after [`SNIFF_MAX`] bytes at the latest. Each byte is looked at once.
///
/// Whatever the HTTP/1 codec accepts is [`Protocol::Http1`]. So is much that it refuses, such as a request line with tabs
/// or with an unknown version: lenient servers accept it, and it must not pass by the HTTP policies as mere bytes.
#[derive(Debug, Default)]
pub struct Classifier {
    /// Bytes that have been looked at.
    seen: usize,
    /// Where the first line begins.
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
    /// What follows the method, up to the end of the line.
    Rest,
}

impl Classifier {
    /// Goes on with `bytes`, which are all that have come since the start of the connection: the protocol, or `None` if
    /// more are needed.
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

    /// What the ClientHello says, once the protocol is [`Protocol::Tls`].
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
        // A target that is too long is answered by the HTTP/1 codec.
        Some(if self.part == Part::Rest { Protocol::Http1 } else { Protocol::Bytes })
    }
}

/// What separates the words of a request line for a lenient server (RFC 9112 section 3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

fn ends_with_version(line: &[u8]) -> bool {
    let last = line.split(|byte| is_space(*byte)).rfind(|word| !word.is_empty()).unwrap_or_default();
    last.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}
