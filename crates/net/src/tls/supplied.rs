//! [`SuppliedCertificate`]: a certificate that is not of the configuration, and TLS of a listener with it.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::certified_key;
use super::server::{BoundTickets, ServerTls};
use super::words::text;
use super::{TlsError, accept_with};

/// A certificate that is supplied for one handshake at a time.
#[derive(Debug)]
pub struct SuppliedCertificate {
    key: Arc<CertifiedKey>,
    /// Of the chain: what sessions are bound to.
    digest: [u8; 32],
}

impl SuppliedCertificate {
    /// Reads a chain and its key in PEM.
    ///
    /// # Errors
    /// The chain or the key cannot be read, TLS cannot sign with the key, or it is not the certificate's.
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
    /// The same TLS with another certificate. Sessions that begin with it are resumed only with it, and sessions that
    /// began with another one, or with those of the configuration, are not: a resumed handshake shows no certificate.
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
        // The sessions that a node stores itself are those of one configuration, which is used once here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Self { config: Arc::new(config), verifier: self.verifier.clone(), verification: self.verification, tickets }
    }

    /// TLS for a handshake that only proves control of a name, by this certificate and in this protocol (RFC 8737).
    /// Nothing may be served on the connection: clients are not verified.
    ///
    /// # Errors
    /// When the cryptography of this TLS cannot be used so.
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

/// Does the handshake of [`ServerTls::challenge`], and ends the connection.
///
/// # Errors
/// When the handshake fails.
pub async fn prove(config: &Arc<ServerConfig>, tcp: tokio::net::TcpStream, prefix: &[u8]) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = accept_with(config, tcp, prefix).await?;
    // The client may have left, now that it knows.
    stream.shutdown().await.ok();
    Ok(())
}

fn digest(context: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// One certificate for all names.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
