//! Verifies handshake signatures by keys of certificates that webpki does not parse; [`Unverified`]: TLS with a server
//! whose certificate is not verified.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::PublicKey;
use super::rsa::{self, Padding};

/// A verifier that accepts any certificate, as OpenSSL does without verification (Kong's default). It still checks that
/// the server has the private key of the certificate, by the signature of the handshake. Only the provider's signature
/// schemes are accepted, and the matching ones for RSASSA-PSS keys.
pub fn unverified(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Unverified(Signatures { provider, small_keys: true }))
}

#[derive(Debug)]
struct Unverified(Signatures);

/// Verifies handshake signatures.
#[derive(Debug)]
pub(super) struct Signatures {
    pub(super) provider: Arc<CryptoProvider>,
    /// Accept RSA keys of less than 2048 bits.
    pub(super) small_keys: bool,
}

impl Signatures {
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed, false)
    }

    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.3 does not allow PKCS#1 padding (RFC 8446 section 4.2.3).
        if matches!(rsa_scheme(signed.scheme), Some((_, Padding::Pkcs1, _))) {
            return Err(wrong_key());
        }
        self.verify(message, certificate, signed, true)
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        curve_is_fixed: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = PublicKey::of(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let valid = match rsa_scheme(signed.scheme) {
            Some((hash, padding, id)) => {
                let rsa = key.rsa().filter(|_| key.algorithm.starts_with(id));
                let (modulus, exponent) = rsa.ok_or_else(wrong_key)?;
                if modulus.len() > rsa::MODULUS_MAX {
                    self.by_provider(message, &key, signed.signature(), plain(signed.scheme), curve_is_fixed)?
                } else if self.small_keys {
                    rsa::verify((modulus, exponent), (hash, padding), message, signed.signature())
                } else {
                    return Err(Error::General("the RSA key of the certificate has less than 2048 bits".to_owned()));
                }
            }
            None => self.by_provider(message, &key, signed.signature(), signed.scheme, curve_is_fixed)?,
        };
        if valid {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    /// Whether the signature is valid by one of the algorithms that the scheme allows and that match the key.
    fn by_provider(
        &self,
        message: &[u8],
        key: &PublicKey<'_>,
        signature: &[u8],
        scheme: SignatureScheme,
        curve_is_fixed: bool,
    ) -> Result<bool, Error> {
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let algorithms = mapping.iter().find(|(known, _)| *known == scheme).map(|(_, algorithms)| *algorithms);
        // In TLS 1.3 the scheme names the curve, in TLS 1.2 only the hash.
        let count = if curve_is_fixed { 1 } else { usize::MAX };
        let is_rsa = rsa_scheme(scheme).is_some();
        let fitting = algorithms.unwrap_or_default().iter().take(count);
        let mut fitting = fitting.filter(|a| is_rsa || a.public_key_alg_id().as_ref() == key.algorithm).peekable();
        fitting.peek().ok_or_else(wrong_key)?;
        Ok(fitting.any(|algorithm| algorithm.verify_signature(key.bits, message, signature).is_ok()))
    }
}

/// Object ids of RSA keys, with their tags: `rsaEncryption`, and `id-RSASSA-PSS` for PSS-only keys.
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// `rsa_pss_pss_sha256` and similar schemes (RFC 8446 section 4.2.3), for which rustls has no names.
const PSS_PSS: [(SignatureScheme, SignatureScheme); 3] = [
    (SignatureScheme::Unknown(0x080b), SignatureScheme::RSA_PSS_SHA512),
    (SignatureScheme::Unknown(0x080a), SignatureScheme::RSA_PSS_SHA384),
    (SignatureScheme::Unknown(0x0809), SignatureScheme::RSA_PSS_SHA256),
];

/// Hash, padding and key type of an RSA scheme.
fn rsa_scheme(scheme: SignatureScheme) -> Option<(&'static digest::Algorithm, Padding, &'static [u8])> {
    let id = if plain(scheme) == scheme { RSA } else { RSA_PSS };
    let (hash, padding) = match plain(scheme) {
        SignatureScheme::RSA_PKCS1_SHA256 => (&digest::SHA256, Padding::Pkcs1),
        SignatureScheme::RSA_PKCS1_SHA384 => (&digest::SHA384, Padding::Pkcs1),
        SignatureScheme::RSA_PKCS1_SHA512 => (&digest::SHA512, Padding::Pkcs1),
        SignatureScheme::RSA_PSS_SHA256 => (&digest::SHA256, Padding::Pss),
        SignatureScheme::RSA_PSS_SHA384 => (&digest::SHA384, Padding::Pss),
        SignatureScheme::RSA_PSS_SHA512 => (&digest::SHA512, Padding::Pss),
        _ => return None,
    };
    Some((hash, padding, id))
}

/// The scheme with a name in rustls that verifies the same signatures.
fn plain(scheme: SignatureScheme) -> SignatureScheme {
    PSS_PSS.iter().find(|(pss, _)| *pss == scheme).map_or(scheme, |(_, plain)| *plain)
}

fn wrong_key() -> Error {
    Error::General("the peer signed with an algorithm that is not its certificate's".to_owned())
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.provider.signature_verification_algorithms.supported_schemes();
        let fitting = PSS_PSS.iter().filter(|(_, plain)| schemes.contains(plain)).map(|(scheme, _)| *scheme);
        let fitting: Vec<_> = fitting.collect();
        schemes.extend(fitting);
        schemes
    }
}
