//! TLS with upstreams and with other servers that the node calls.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;

use super::roots::Roots;
use super::unverified::unverified;
use super::words::text;
use super::{TlsError, certified_key, verify};

/// The settings of TLS with an upstream.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// Verify the upstream's certificate.
    pub verify: bool,
    /// Maximum number of intermediate certificates.
    pub verify_depth: Option<u8>,
    /// Authorities in PEM; `None` means those of the system.
    pub authorities: Option<String>,
    /// The client certificate: chain and key in PEM.
    pub client: Option<(Box<str>, Box<str>)>,
    /// ALPN protocols to offer.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientSettings {
    /// A digest that is equal only for equal settings. It does not reveal the private key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: Option<&[u8]>| {
            // The length prefix separates adjacent values.
            context.update(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            context.update(bytes.unwrap_or_default());
        };
        field(Some(&[u8::from(self.verify)]));
        field(self.verify_depth.as_ref().map(std::slice::from_ref));
        field(self.authorities.as_deref().map(str::as_bytes));
        field(self.client.as_ref().map(|(chain, _)| chain.as_bytes()));
        field(self.client.as_ref().map(|(_, key)| key.as_bytes()));
        for protocol in &self.alpn {
            field(Some(protocol));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

/// Builds the TLS configuration for an upstream. Sessions are only resumed by connections of the same configuration.
///
/// # Errors
/// If the authorities, the client certificate or its key cannot be used, or the system's authorities cannot be read
/// now.
pub fn client_config(settings: &ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(super::inner_plaintext::provider());
    let config_error = |e: rustls::Error| TlsError::Config(text(&e).into());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let verifier = if settings.verify {
        let roots = match &settings.authorities {
            Some(pem) => Arc::new(Roots::read(pem)?),
            None => Roots::of_system()?,
        };
        verify::servers(&roots, provider, settings.verify_depth)?
    } else {
        unverified(provider)
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let shown = SingleCertAndKey::from(Arc::unwrap_or_clone(certified_key(chain, key)?));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    Ok(Arc::new(config))
}
