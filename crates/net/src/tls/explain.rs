//! Explains why a handshake with an upstream failed.

use std::io::{Error, ErrorKind};

use rustls::{AlertDescription, ClientConfig};

/// An explanation to add to a handshake error: what this node offers if the server requires something else, and where
/// to find more. Empty if the error is clear by itself.
pub(crate) fn explain(error: &Error, config: &ClientConfig) -> String {
    use AlertDescription as Alert;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = match inner {
        Some(rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity)) => {
            "the server refused the handshake, probably because it supports no cipher suite or key exchange that is \
             offered"
        }
        Some(rustls::Error::AlertReceived(Alert::ProtocolVersion)) => {
            "the server supports no TLS version that is offered"
        }
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::PeerMisbehaved(_)) => {
            "the server chose what is not offered"
        }
        Some(rustls::Error::AlertReceived(Alert::CertificateRequired)) => {
            return "; the server requires a client certificate".to_owned();
        }
        Some(rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        )) => return "; the server rejected the client certificate".to_owned(),
        Some(rustls::Error::InvalidMessage(_)) => {
            return "; the server does not seem to speak TLS on this port".to_owned();
        }
        // Some servers close the connection instead of sending an alert.
        None if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            "the server closed the connection during the handshake, perhaps because it supports nothing that is offered"
        }
        _ => return String::new(),
    };
    let suites: Vec<String> =
        config.crypto_provider().cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    let groups: Vec<String> =
        config.crypto_provider().kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    format!(
        "; {reason}; offered: TLS 1.3 and TLS 1.2, cipher suites {}, key exchange {}; not supported: TLS 1.1 and older, \
         cipher suites with RSA key exchange, finite-field DHE or CBC; see \"TLS with upstreams\" in docs/failures.md",
        suites.join(" "),
        groups.join(" ")
    )
}
