//! Certificate signing requests (PKCS #10, RFC 2986), of which only the key counts.

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certification_request::X509CertificationRequest;

use super::CaError;

/// Most bytes of a request. One with an RSA key of 8192 bits has less than 4 KiB.
const BYTES_MAX: usize = 64 * 1024;

/// Kinds of keys that leaves may have, with the algorithm by which `rcgen` knows them.
const KINDS: [(AlgorithmIdentifier, &SignatureAlgorithm); 4] = [
    (alg_id::ECDSA_P256, &PKCS_ECDSA_P256_SHA256),
    (alg_id::ECDSA_P384, &PKCS_ECDSA_P384_SHA384),
    (alg_id::ED25519, &PKCS_ED25519),
    (alg_id::RSA_ENCRYPTION, &PKCS_RSA_SHA256),
];

/// The public key of a request.
pub(super) struct RequestKey {
    kind: &'static SignatureAlgorithm,
    bits: Vec<u8>,
}

impl RequestKey {
    /// Reads a request and verifies that its key has signed it.
    pub(super) fn verified(der: &[u8]) -> Result<Self, CaError> {
        if der.len() > BYTES_MAX {
            return Err(CaError::Csr("it is too long"));
        }
        let damaged = CaError::Csr("it is not PKCS #10 in DER");
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else { return Err(damaged) };
        let info = &request.certification_request_info;
        // Both are whole bytes.
        if request.signature_value.unused_bits != 0 || info.subject_pki.subject_public_key.unused_bits != 0 {
            return Err(damaged);
        }
        let algorithm = contents(info.subject_pki.raw).and_then(contents).ok_or(damaged)?;
        let known = KINDS.into_iter().find(|(id, _)| id.as_ref() == algorithm);
        let (id, kind) = known.ok_or(CaError::Csr("its key is not ECDSA P-256, ECDSA P-384, Ed25519 or RSA"))?;
        let bits = info.subject_pki.subject_public_key.data.to_vec();
        let signature = signature_id(&request).ok_or(CaError::Csr("its signature algorithm is not supported"))?;
        let algorithms = webpki::ALL_VERIFICATION_ALGS.iter().filter(|algorithm| {
            algorithm.public_key_alg_id() == id && signature.contains(&algorithm.signature_alg_id().as_ref().to_vec())
        });
        let mut verified = algorithms
            .map(|algorithm| algorithm.verify_signature(&bits, info.raw, &request.signature_value.data).is_ok());
        if verified.any(|is_valid| is_valid) {
            Ok(Self { kind, bits })
        } else {
            Err(CaError::Csr("it is not signed by its key with a supported algorithm"))
        }
    }
}

impl PublicKeyData for RequestKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.kind
    }
}

/// The contents of the first element of DER.
fn contents(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, element)| element.data)
}

/// The contents of the algorithm identifier of a signature, without parameters and with a NULL. Parameters of another
/// kind are those of RSASSA-PSS, which is not supported here.
fn signature_id(request: &X509CertificationRequest<'_>) -> Option<[Vec<u8>; 2]> {
    const OBJECT_ID: u8 = 0x06;
    const NULL: [u8; 2] = [0x05, 0x00];
    let id = request.signature_algorithm.algorithm.as_bytes();
    let length = u8::try_from(id.len()).ok().filter(|length| *length < 0x80)?;
    let bare = [&[OBJECT_ID, length], id].concat();
    Some([bare.clone(), [bare.as_slice(), &NULL].concat()])
}
