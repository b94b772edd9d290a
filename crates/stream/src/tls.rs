//! [`StreamTls`]: how control planes and data planes know each other.

use std::fmt;
use std::sync::Arc;

use cardinal_pki::PrivateKey;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::anchored::Anchored;

/// The name of HTTP/2 in TLS.
const ALPN: &[u8] = b"h2";

/// What this side shows.
pub struct NodeIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
}

/// How the two sides know each other. Both sides of a connection use the same way.
#[derive(Debug)]
pub enum StreamTls {
    /// Both sides have the same certificate and key, and accept exactly this certificate (`cluster_mtls=shared`). The names
    /// and dates in it do not count.
    Shared(NodeIdentity),
    /// Each side has its own certificate, and accepts those of an authority (`cluster_mtls=pki`).
    Pki {
        /// The certificate of this side; a data plane without one can only join.
        identity: Option<NodeIdentity>,
        /// The certificates of the authorities (`cluster_ca_cert`).
        authorities: Vec<CertificateDer<'static>>,
    },
    /// A data plane that joins: it has no certificate, and accepts those of an authority that the control plane shows, and whose
    /// certificate has this digest.
    Joining {
        /// SHA-256 of the certificate in DER.
        authority: [u8; 32],
    },
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamTlsError {
    /// The text is not PEM or has no certificate.
    #[error("the certificate cannot be read: {0}")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The private key cannot be read.
    #[error(transparent)]
    Key(#[from] cardinal_pki::KeyError),
    /// There is no certificate where one is needed.
    #[error("there is no certificate")]
    Missing,
    /// The certificate, or the key that belongs to it, cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[source] Error),
    /// The certificate of the authority cannot be used.
    #[error("the certificate of the authority cannot be used: {0}")]
    Authority(#[source] rustls::server::VerifierBuilderError),
}

impl NodeIdentity {
    /// A chain, leaf first, and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Self {
        Self { chain, key }
    }

    /// From PEM texts (`cluster_cert`, `cluster_cert_key`).
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, StreamTlsError> {
        let chain = certificates(chain)?;
        if chain.is_empty() {
            return Err(StreamTlsError::Missing);
        }
        Ok(Self { chain, key: PrivateKey::from_pem(key)? })
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeIdentity({} certificates)", self.chain.len())
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, StreamTlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(StreamTlsError::Pem)
}

impl StreamTls {
    /// By an authority, from PEM texts (`cluster_ca_cert`).
    ///
    /// # Errors
    /// When the certificates of the authority cannot be read.
    pub fn pki(identity: Option<NodeIdentity>, authorities: &str) -> Result<Self, StreamTlsError> {
        Ok(Self::Pki { identity, authorities: certificates(authorities)? })
    }

    /// The configuration of a control plane. With `joining`, data planes that have no certificate can connect, which may then
    /// do nothing but join.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn server(&self, joining: bool) -> Result<Arc<ServerConfig>, StreamTlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(StreamTlsError::Unusable)?;
        let verifier: Arc<dyn ClientCertVerifier> = match self {
            Self::Shared(identity) => Arc::new(Pinned::new(identity)?),
            Self::Pki { authorities, .. } => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider());
                let verifier = if joining { verifier.allow_unauthenticated() } else { verifier };
                verifier.build().map_err(StreamTlsError::Authority)?
            }
            Self::Joining { .. } => return Err(StreamTlsError::Missing),
        };
        let NodeIdentity { chain, key } = self.identity().ok_or(StreamTlsError::Missing)?;
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.der().clone_key())
            .map_err(StreamTlsError::Unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would not show its certificate again.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration of a data plane.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn client(&self) -> Result<Arc<ClientConfig>, StreamTlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(StreamTlsError::Unusable)?
            .dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Shared(identity) => Arc::new(Pinned::new(identity)?),
            Self::Pki { authorities, .. } => {
                WebPkiServerVerifier::builder_with_provider(roots(authorities)?, provider())
                    .build()
                    .map_err(StreamTlsError::Authority)?
            }
            Self::Joining { authority } => Arc::new(Anchored::new(*authority)),
        };
        let builder = builder.with_custom_certificate_verifier(verifier);
        let mut config = match self.identity() {
            None => builder.with_no_client_auth(),
            Some(NodeIdentity { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.der().clone_key()).map_err(StreamTlsError::Unusable)?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    fn identity(&self) -> Option<&NodeIdentity> {
        match self {
            Self::Shared(identity) => Some(identity),
            Self::Pki { identity, .. } => identity.as_ref(),
            Self::Joining { .. } => None,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, StreamTlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(StreamTlsError::Unusable)?;
    }
    Ok(Arc::new(roots))
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(identity: &NodeIdentity) -> Result<Self, StreamTlsError> {
        let certificate = identity.chain.first().cloned().ok_or(StreamTlsError::Missing)?;
        Ok(Self { certificate, algorithms: provider().signature_verification_algorithms })
    }

    fn verify(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if *shown == self.certificate {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
