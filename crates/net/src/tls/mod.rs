//! TLS on both sides, with rustls over aws-lc-rs: certificates by server name, client certificates, upstream
//! verification.

mod accept;
mod certificate;
mod client;
mod explain;
mod inner_plaintext;
mod names;
mod roots;
mod rsa;
mod server;
mod supplied;
mod trusted;
mod unverified;
mod verify;
mod words;

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use accept::accept;
pub(crate) use accept::accept_with;
pub use certificate::{certificates, certified_key, self_signed};
pub use client::{ClientSettings, client_config};
pub(crate) use explain::explain;
pub use names::Names;
pub use roots::{has_system_authorities, read_system_authorities};
pub use server::{ServerSettings, ServerTls, server_config, ticketer};
pub use supplied::{SuppliedCertificate, prove};
pub use unverified::unverified;
pub use words::{io_text, text};

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or without a certificate.
    #[error("certificate: {0}")]
    Certificate(String),
    /// Not PEM, or without a private key.
    #[error("key: {0}")]
    Key(String),
    /// The certificate does not match the key.
    #[error("certificate does not match key")]
    Mismatch,
    /// The authorities cannot be used.
    #[error("certificate authorities: {0}")]
    Authorities(String),
    /// The system's authorities cannot be read at the moment.
    #[error("the system's certificate authorities cannot be read: {0}")]
    SystemAuthorities(io::Error),
    /// The TLS library rejects the configuration.
    #[error("{0}")]
    Config(String),
}

impl TlsError {
    /// Whether the same settings may be usable later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::SystemAuthorities(_))
    }
}

/// The one crypto provider of the process, with these cipher suites (IANA or OpenSSL names; unknown names are
/// returned) or all of the library's.
pub fn provider(cipher_suites: &[Box<str>]) -> (Arc<CryptoProvider>, Vec<Box<str>>) {
    let mut provider = inner_plaintext::provider();
    let mut unknown = Vec::new();
    if !cipher_suites.is_empty() {
        let all = provider.cipher_suites.clone();
        let mut chosen: Vec<_> = all.iter().filter(|s| s.tls13().is_some()).copied().collect();
        for name in cipher_suites {
            match all.iter().find(|suite| suite_is(&format!("{:?}", suite.suite()), name)) {
                Some(suite) if !chosen.contains(suite) => chosen.push(*suite),
                Some(_) => {}
                None => unknown.push(name.clone()),
            }
        }
        provider.cipher_suites = chosen;
    }
    (Arc::new(provider), unknown)
}

/// Whether rustls's name of a suite corresponds to this IANA or OpenSSL name: `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`,
/// `ECDHE-RSA-AES128-GCM-SHA256`.
fn suite_is(ours: &str, theirs: &str) -> bool {
    let plain = |name: &str| {
        let name = name.to_ascii_uppercase().replace(['-', '_'], "");
        let name = name.strip_prefix("TLS13").or(name.strip_prefix("TLS")).unwrap_or(&name).replace("WITH", "");
        name.strip_suffix("POLY1305SHA256").map(|n| format!("{n}POLY1305")).unwrap_or(name)
    };
    plain(ours) == plain(theirs)
}

#[cfg(test)]
mod tests;
