//! The server name in a TLS ClientHello, read without answering it: for passthrough by SNI.

use rustls::server::Acceptor;

/// How far reading came.
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

/// The most bytes a ClientHello is waited for with.
pub const MAX: usize = 16 * 1024;

/// Reads the ClientHello at the start of `bytes`. It may stretch over several records.
pub fn parse(bytes: &[u8]) -> Hello {
    Reader::default().read(bytes)
}

/// Reads a ClientHello that arrives in pieces, without reading any byte twice.
#[derive(Default)]
pub struct Reader {
    acceptor: Acceptor,
    /// Bytes that the acceptor has.
    fed: usize,
}

impl Reader {
    /// Goes on with `bytes`, which are all that have come since the start of the connection. Do not call it again once
    /// the outcome is no longer [`Hello::Partial`].
    pub fn read(&mut self, bytes: &[u8]) -> Hello {
        // 22: handshake record, 3.x: TLS. Decided early, so that what is not TLS is not waited for.
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
