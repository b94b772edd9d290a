//! Certificates and keys in PEM: whether they are sound and belong together.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::pem::Pem;

/// What is known of the first certificate in a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// DER of the certificate.
    pub der: Vec<u8>,
    /// Bits of the public key.
    pub public_key: Vec<u8>,
    /// Dotted object id of the key's algorithm.
    pub algorithm: String,
    /// It is an authority.
    pub is_ca: bool,
    /// Seconds since the epoch when it ends.
    pub not_after: i64,
}

/// Reads the first certificate.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn certificate(text: &str) -> Result<CertificateFacts, String> {
    let pem = Pem::iter_from_buffer(text.as_bytes())
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .ok_or("no PEM block CERTIFICATE found")?;
    let parsed = pem.parse_x509().map_err(|e| e.to_string())?;
    let spki = parsed.public_key();
    Ok(CertificateFacts {
        public_key: spki.subject_public_key.data.to_vec(),
        algorithm: spki.algorithm.algorithm.to_id_string(),
        is_ca: parsed.is_ca(),
        not_after: parsed.validity().not_after.timestamp(),
        der: pem.contents.clone(),
    })
}

/// The public key bits that belong to a private key.
///
/// # Errors
/// The text holds no private key of a supported kind (RSA; ECDSA on P-256, P-384, P-521; Ed25519).
pub fn public_bits_of_key(text: &str) -> Result<Vec<u8>, String> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
    let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    let unsupported = || "not a private key of a supported kind".to_owned();
    match &key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
            .map(|pair| pair.public_key().as_ref().to_vec())
            .map_err(|e| e.to_string()),
        PrivateKeyDer::Sec1(der) => curves
            .iter()
            .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()).ok())
            .map(|pair| pair.public_key().as_ref().to_vec())
            .ok_or_else(unsupported),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
                return Ok(pair.public_key().as_ref().to_vec());
            }
            if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                return Ok(pair.public_key().as_ref().to_vec());
            }
            curves
                .iter()
                .find_map(|curve| EcdsaKeyPair::from_pkcs8(curve, der).ok())
                .map(|pair| pair.public_key().as_ref().to_vec())
                .ok_or_else(unsupported)
        }
        _ => Err(unsupported()),
    }
}

/// Whether a certificate and a key belong together.
///
/// # Errors
/// One of them cannot be read.
pub fn matches(certificate_text: &str, key_text: &str) -> Result<bool, String> {
    Ok(certificate(certificate_text)?.public_key == public_bits_of_key(key_text)?)
}

/// SHA-256 of the first certificate, hexadecimal.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn digest(text: &str) -> Result<String, String> {
    let der = certificate(text)?.der;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    Ok(sum.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}
