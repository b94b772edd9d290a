//! TLS of listeners: versions, certificates, verification of clients, session tickets.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::certificate::certificates;
use super::roots::Roots;
use super::words::text;
use super::{Names, TlsError, verify};

/// The settings of a listener's TLS.
pub struct ServerSettings {
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// Certificates.
    pub names: Arc<Names>,
    /// Offer HTTP/2.
    pub http2: bool,
    /// Offer ALPN (HTTP listeners).
    pub alpn: bool,
    /// Request a client certificate and verify it by these PEM authorities.
    pub client_authorities: Option<String>,
    /// Reject clients without a certificate.
    pub client_required: bool,
    /// Require TLS 1.3.
    pub tls13_only: bool,
    /// Creates session tickets; shared by all generations, so that sessions outlive them. A session is only resumed
    /// under the client verification under which it was established.
    pub ticketer: Arc<dyn ProducesTickets>,
}

/// TLS of a listener.
#[derive(Clone)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) verification: u64,
    pub(super) tickets: Arc<BoundTickets>,
}

impl ServerTls {
    /// The TLS configuration.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Identifies the client verification: the number changes with the mode or the authorities.
    pub fn verification(&self) -> u64 {
        self.verification
    }

    #[cfg(test)]
    pub(super) fn set_time_provider(&mut self, clock: Arc<dyn rustls::time_provider::TimeProvider>) {
        if let Some(config) = Arc::get_mut(&mut self.config) {
            config.time_provider = clock;
        }
    }

    /// Whether a client may be served that has just completed its handshake. A full handshake has verified its
    /// certificate; a resumed one has not, and the certificate may have expired since.
    ///
    /// # Errors
    /// The error of the verification.
    pub fn verify_resumed(&self, connection: &ServerConnection) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        if connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        match connection.peer_certificates() {
            Some([leaf, intermediates @ ..]) => {
                let now = self.config.time_provider.current_time().ok_or(rustls::Error::FailedToGetCurrentTime)?;
                verifier.verify_client_cert(leaf, intermediates, now).map(drop)
            }
            _ if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            _ => Ok(()),
        }
    }
}

/// A ticketer with rotating keys.
///
/// # Errors
/// If the system provides no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| TlsError::Config(text(&e).into()))
}

/// Builds the TLS configuration of a listener.
///
/// # Errors
/// If the authorities or the settings as a whole cannot be used.
pub fn server_config(settings: ServerSettings) -> Result<ServerTls, TlsError> {
    let config_error = |e: rustls::Error| TlsError::Config(text(&e).into());
    let versions: &[&rustls::SupportedProtocolVersion] =
        if settings.tls13_only { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let context = verification(&settings)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&settings.provider))
        .with_protocol_versions(versions)
        .map_err(config_error)?;
    let (builder, verifier) = match &settings.client_authorities {
        None => (builder.with_no_client_auth(), None),
        Some(pem) => {
            let roots = Arc::new(Roots::read(pem)?);
            let verifier = verify::clients(&roots, settings.provider, settings.client_required)?;
            (builder.with_client_cert_verifier(Arc::clone(&verifier)), Some(verifier))
        }
    };
    let mut config = builder.with_cert_resolver(settings.names);
    let tickets = Arc::new(BoundTickets { inner: settings.ticketer, context });
    config.ticketer = Arc::clone(&tickets) as _;
    config.send_tls13_tickets = 1;
    if settings.alpn {
        config.alpn_protocols =
            if settings.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    }
    let verification = u64::from_be_bytes(context.first_chunk().copied().unwrap_or_default());
    Ok(ServerTls { config: Arc::new(config), verifier, verification, tickets })
}

/// A digest of the settings that determine which clients are served, and of the protocol: HTTP or not. The order of the
/// authorities and the layout of their text are irrelevant.
fn verification(settings: &ServerSettings) -> Result<[u8; 32], TlsError> {
    let mut context = Context::new(&SHA256);
    context.update(&[u8::from(settings.alpn), u8::from(settings.client_authorities.is_some())]);
    if let Some(pem) = &settings.client_authorities {
        context.update(&[u8::from(settings.client_required)]);
        let mut authorities = certificates(pem)?;
        authorities.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        authorities.dedup();
        for authority in &authorities {
            context.update(&(authority.len() as u64).to_be_bytes());
            context.update(authority);
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

/// Session tickets that are invalid under another client verification: a session established without a certificate, or
/// with one of an authority that is no longer trusted, must not be resumed where it would be rejected today.
#[derive(Debug)]
pub(super) struct BoundTickets {
    pub(super) inner: Arc<dyn ProducesTickets>,
    pub(super) context: [u8; 32],
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(&[&self.context, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.inner.decrypt(cipher)?;
        plain.strip_prefix(&self.context).map(<[u8]>::to_vec)
    }
}
