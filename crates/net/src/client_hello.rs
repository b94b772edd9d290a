//! Reads the server name of a TLS ClientHello without answering it, for passthrough by SNI.

use rustls::server::Acceptor;

/// The result of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Partial,
    /// The ClientHello is complete.
    Complete {
        /// Server name, lower-case.
        sni: Option<String>,
        /// Protocols offered by ALPN.
        alpn: Vec<Vec<u8>>,
    },
    /// This is not TLS.
    NotTls,
}

/// Maximum number of bytes to read for a ClientHello.
pub const MAX: usize = 16 * 1024;

/// Reads the ClientHello at the start of `bytes`. It may span several records.
pub fn parse(bytes: &[u8]) -> Hello {
    Reader::default().read(bytes)
}

/// Reads a ClientHello that arrives in parts, without reading any byte twice.
#[derive(Default)]
pub struct Reader {
    acceptor: Acceptor,
    /// Number of bytes passed to the acceptor.
    fed: usize,
}

impl Reader {
    /// Continues with `bytes`: all bytes since the start of the connection. Must not be called again once the result is
    /// not [`Hello::Partial`].
    pub fn read(&mut self, bytes: &[u8]) -> Hello {
        // 22: handshake record, 3.x: TLS. Checked early, so that a client that does not use TLS is not waited for.
        match bytes {
            [] | [22] => return Hello::Partial,
            [22, 3, ..] => {}
            _ => return Hello::NotTls,
        }
        let mut rest = bytes.get(self.fed..).unwrap_or_default();
        self.fed = bytes.len();
        while !rest.is_empty() {
            match self.acceptor.read_tls(&mut rest) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return Hello::Complete {
                        sni: hello.server_name().map(str::to_ascii_lowercase),
                        alpn: hello.alpn().map(|protocols| protocols.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                    };
                }
                Ok(None) => {}
                Err(_) => return Hello::NotTls,
            }
        }
        if bytes.len() >= MAX { Hello::NotTls } else { Hello::Partial }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("fed", &self.fed).finish_non_exhaustive()
    }
}
