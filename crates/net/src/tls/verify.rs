//! Verifies the certificates of servers and clients: chains by webpki, and directly trusted certificates by
//! [`Trusted`](super::trusted::Trusted).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::TlsError;
use super::roots::Roots;
use super::trusted::Purpose;
use super::unverified::Signatures;

/// Verifies servers. The depth limits the number of intermediate certificates (nginx: `proxy_ssl_verify_depth`).
pub(super) fn servers(
    roots: &Arc<Roots>,
    provider: Arc<CryptoProvider>,
    depth: Option<u8>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots.store), Arc::clone(&provider))
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(Servers { chains, own: Own::new(roots, provider), depth }))
}

/// Verifies clients, and rejects those without a certificate if it is `required`.
pub(super) fn clients(
    roots: &Arc<Roots>,
    provider: Arc<CryptoProvider>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let chains = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots.store), Arc::clone(&provider));
    let chains = if required { chains } else { chains.allow_unauthenticated() };
    let chains = chains.build().map_err(unusable)?;
    Ok(Arc::new(Clients { chains, own: Own::new(roots, provider) }))
}

fn unusable(error: VerifierBuilderError) -> TlsError {
    TlsError::Authorities(match error {
        VerifierBuilderError::NoRootAnchors => "there are none".to_owned(),
        other => other.to_string(),
    })
}

/// Adds to webpki: directly trusted certificates, and signatures by their keys.
#[derive(Debug)]
struct Own {
    roots: Arc<Roots>,
    signatures: Signatures,
}

impl Own {
    fn new(roots: &Arc<Roots>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots: Arc::clone(roots), signatures: Signatures { provider, small_keys: false } }
    }

    /// The result of webpki, or the result for a directly trusted certificate.
    fn certificate<T>(
        &self,
        found: Result<T, Error>,
        assertion: T,
        certificate: &CertificateDer<'_>,
        purpose: Purpose<'_>,
        now: UnixTime,
    ) -> Result<T, Error> {
        found.or_else(|error| {
            let verified = self.roots.trusted.verify(certificate, purpose, now);
            verified.unwrap_or(Err(error)).map(|()| assertion)
        })
    }

    fn signature(
        &self,
        found: Result<HandshakeSignatureValid, Error>,
        (message, certificate, signed): (&[u8], &CertificateDer<'_>, &DigitallySignedStruct),
        verify: impl FnOnce(
            &Signatures,
            &[u8],
            &CertificateDer<'_>,
            &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match found {
            Err(_) if self.roots.trusted.contains(certificate) => {
                verify(&self.signatures, message, certificate, signed)
            }
            found => found,
        }
    }
}

#[derive(Debug)]
struct Servers {
    chains: Arc<WebPkiServerVerifier>,
    own: Own,
    depth: Option<u8>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = match self.depth {
            Some(depth) if intermediates.len() > usize::from(depth) => {
                Err(Error::General(format!("the certificate chain is longer than tls_verify_depth {depth}")))
            }
            _ => self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        };
        let purpose = Purpose::Server(server_name);
        self.own.certificate(found, ServerCertVerified::assertion(), end_entity, purpose, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let found = self.chains.verify_tls12_signature(message, cert, dss);
        self.own.signature(found, (message, cert, dss), Signatures::verify_tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let found = self.chains.verify_tls13_signature(message, cert, dss);
        self.own.signature(found, (message, cert, dss), Signatures::verify_tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Clients {
    chains: Arc<dyn ClientCertVerifier>,
    own: Own,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.chains.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let found = self.chains.verify_client_cert(end_entity, intermediates, now);
        self.own.certificate(found, ClientCertVerified::assertion(), end_entity, Purpose::Client, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let found = self.chains.verify_tls12_signature(message, cert, dss);
        self.own.signature(found, (message, cert, dss), Signatures::verify_tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let found = self.chains.verify_tls13_signature(message, cert, dss);
        self.own.signature(found, (message, cert, dss), Signatures::verify_tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
