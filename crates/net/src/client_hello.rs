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
    // 22: handshake record, 3.x: TLS. Decided early, so that what is not TLS is not waited for.
    match bytes {
        [] | [22] => return Hello::Partial,
        [22, 3, ..] => {}
        _ => return Hello::NotTls,
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match acceptor.accept() {
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
