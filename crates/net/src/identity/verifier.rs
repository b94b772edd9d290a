//! Verification of peers at handshake time, by the trust bundles and the policy.

use std::sync::Arc;

use cardinal_base::UnixMillis;
use cardinal_pki::{Purpose, SpiffeId, VerifyError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::{IdentityPolicy, IdentityStore};

/// Why a peer is rejected.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Its certificate does not prove an identity.
    #[error("the identity of the peer cannot be verified: {0}")]
    Unverified(#[source] VerifyError),
    /// The peer has proved an identity that is not allowed here.
    #[error("the peer is {0}, which is not an identity that is allowed here")]
    Unexpected(SpiffeId),
    /// This node cannot prove its own identity, so it rejects all peers.
    #[error("this node has no certificate for its own identity")]
    NoOwnIdentity,
}

impl From<PeerError> for Error {
    /// Errors that have a specific TLS alert are sent to the peer as that alert.
    fn from(error: PeerError) -> Self {
        use webpki::Error as Path;
        let own_alert = match &error {
            PeerError::Unverified(VerifyError::Path { error, .. }) => match error {
                Path::CertExpired { time, not_after } => {
                    Some(CertificateError::ExpiredContext { time: *time, not_after: *not_after })
                }
                Path::CertNotValidYet { time, not_before } => {
                    Some(CertificateError::NotValidYetContext { time: *time, not_before: *not_before })
                }
                Path::UnknownIssuer => Some(CertificateError::UnknownIssuer),
                _ => None,
            },
            PeerError::Unverified(VerifyError::Empty) => return Self::NoCertificatesPresented,
            PeerError::Unverified(VerifyError::Malformed) => Some(CertificateError::BadEncoding),
            PeerError::Unverified(_) | PeerError::Unexpected(_) | PeerError::NoOwnIdentity => None,
        };
        Self::InvalidCertificate(own_alert.unwrap_or_else(|| CertificateError::Other(OtherError(Arc::new(error)))))
    }
}

/// Verifies the peers of a policy.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) store: Arc<IdentityStore>,
    pub(super) policy: IdentityPolicy,
}

impl Peers {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> =
            [leaf].into_iter().chain(intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        let now = UnixMillis(now.as_secs().saturating_mul(1_000));
        self.store.verify_at(&self.policy, &chain, purpose, now)?;
        Ok(())
    }

    fn verify_tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.store.provider.signature_verification_algorithms)
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.store.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.store.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Peers {
    /// The server name is only sent as SNI. It proves nothing and is ignored.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, Purpose::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Peers {
    /// No hints: they would name the authorities at the time when the configuration was built.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, Purpose::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
