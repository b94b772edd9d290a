//! TLS of listeners: versions, certificates, verification of clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};

use super::{Names, TlsError, roots};

/// What a listener's TLS is made of.
pub struct ServerSettings {
    /// Crypto.
    pub provider: Arc<CryptoProvider>,
    /// Certificates.
    pub names: Arc<Names>,
    /// Offer HTTP/2.
    pub http2: bool,
    /// Offer ALPN at all (HTTP listeners).
    pub alpn: bool,
    /// Ask for a client certificate and verify it by these PEM authorities.
    pub client_authorities: Option<String>,
    /// Refuse clients without one.
    pub client_required: bool,
    /// Nothing below TLS 1.3.
    pub tls13_only: bool,
    /// Makes session tickets; shared by all generations, so that sessions outlive them.
    pub ticketer: Arc<dyn ProducesTickets>,
}

/// Session tickets with keys that rotate.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| TlsError::Config(e.to_string()))
}

/// Makes a listener's TLS.
pub fn server_config(settings: ServerSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let config_error = |e: rustls::Error| TlsError::Config(e.to_string());
    let versions: &[&rustls::SupportedProtocolVersion] =
        if settings.tls13_only { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&settings.provider))
        .with_protocol_versions(versions)
        .map_err(config_error)?;
    let builder = match &settings.client_authorities {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), settings.provider);
            let verifier = if settings.client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| TlsError::Authorities(e.to_string()))?)
        }
    };
    let mut config = builder.with_cert_resolver(settings.names);
    config.ticketer = settings.ticketer;
    config.send_tls13_tickets = 1;
    if settings.alpn {
        config.alpn_protocols =
            if settings.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    }
    Ok(Arc::new(config))
}
