//! TLS with upstreams, and with whomever else the node calls.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::unverified::Unverified;
use super::{TlsError, certified_key, roots};

/// What TLS with an upstream is made of.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// Verify the upstream's certificate.
    pub verify: bool,
    /// Most intermediate certificates when verifying.
    pub verify_depth: Option<u8>,
    /// Authorities in PEM; `None` for the system's.
    pub authorities: Option<String>,
    /// The certificate to show: chain and key in PEM.
    pub client: Option<(Box<str>, Box<str>)>,
    /// Protocols to offer.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientSettings {
    /// A digest that is the same for equal settings only. It tells nothing about the private key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: Option<&[u8]>| {
            // Lengths keep apart what stands beside each other.
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

/// Makes TLS with an upstream. Sessions are resumed only by connections of the same configuration: what is made of other
/// settings has none of them.
///
/// # Errors
/// The authorities, the certificate to show or its key cannot be used.
pub fn client_config(settings: &ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(super::inner_plaintext::provider());
    let config_error = |e: rustls::Error| TlsError::Config(e.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(config_error)?;
    let builder = if settings.verify {
        let store = match &settings.authorities {
            Some(pem) => roots(pem)?,
            None => system_roots(),
        };
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|e| TlsError::Authorities(e.to_string()))?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Limited { inner, depth: settings.verify_depth }))
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(provider)))
    };
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

/// The system's authorities; empty where there are none, and then every verification fails.
fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(loaded.certs);
    store
}

/// Verification with a limit on the chain's length (nginx: `proxy_ssl_verify_depth`).
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn ServerCertVerifier>,
    depth: Option<u8>,
}

impl ServerCertVerifier for Limited {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.depth.is_some_and(|depth| intermediates.len() > usize::from(depth)) {
            return Err(rustls::Error::General("certificate chain too long".to_owned()));
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
