//! [`SuppliedCertificate`]: a certificate that does not come from the configuration, and the TLS configuration with it.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::certified_key;
use super::server::{BoundTickets, ServerTls};
use super::words::text;
use super::{TlsError, accept_with};

/// A certificate that is supplied for single handshakes.
#[derive(Debug)]
pub struct SuppliedCertificate {
    key: Arc<CertifiedKey>,
    /// Digest of the chain, to which sessions are bound.
    digest: [u8; 32],
}

impl SuppliedCertificate {
    /// Reads a chain and its key in PEM.
    ///
    /// # Errors
    /// If the chain or the key cannot be read, TLS cannot sign with the key, or the key does not match the certificate.
    pub fn parse(chain: &str, key: &str) -> Result<Self, TlsError> {
        let key = certified_key(chain, key)?;
        let mut context = Context::new(&SHA256);
        for certificate in &key.cert {
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        Ok(Self { key, digest: digest(context) })
    }
}

impl ServerTls {
    /// The same TLS settings with another certificate. Sessions established with it are only resumed with it, and
    /// sessions established with another one, or with those of the configuration, are not resumed: a resumed handshake
    /// presents no certificate.
    #[must_use]
    pub fn with_certificate(&self, certificate: &SuppliedCertificate) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"supplied");
        context.update(&self.tickets.context);
        context.update(&certificate.digest);
        let tickets = Arc::new(BoundTickets { inner: Arc::clone(&self.tickets.inner), context: digest(context) });
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(Fixed(Arc::clone(&certificate.key)));
        config.ticketer = Arc::clone(&tickets) as _;
        // Server-side session storage belongs to one configuration, and this one is used once.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Self { config: Arc::new(config), verifier: self.verifier.clone(), verification: self.verification, tickets }
    }

    /// The TLS configuration for a handshake that only proves control of a name, by this certificate and ALPN protocol
    /// (RFC 8737). No requests may be served on the connection: clients are not verified.
    ///
    /// # Errors
    /// If the crypto provider of this configuration cannot be used for it.
    pub fn challenge(&self, certificate: &SuppliedCertificate, protocol: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.config.crypto_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| TlsError::Config(text(&error).into()))?;
        let resolver = Arc::new(Fixed(Arc::clone(&certificate.key)));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Performs the handshake of [`ServerTls::challenge`], and closes the connection.
///
/// # Errors
/// If the handshake fails.
pub async fn prove(config: &Arc<ServerConfig>, tcp: tokio::net::TcpStream, prefix: &[u8]) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = accept_with(config, tcp, prefix).await?;
    // The client may have closed the connection after receiving the certificate.
    stream.shutdown().await.ok();
    Ok(())
}

fn digest(context: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The same certificate for all names.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
