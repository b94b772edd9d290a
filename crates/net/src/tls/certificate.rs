//! Certificates and keys in PEM and DER.
//!
//! A certificate that a node shows, or that it does not verify, may be anything that carries a public key: X.509
//! version 1, with extensions that cannot be read, with a validity in an odd form. So only the public key is looked for,
//! by the order of the fields of RFC 5280 section 4.1.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;

/// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit: the version.
const VERSION: u8 = 0xa0;

/// The public key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// The contents of the algorithm identifier: an object id and parameters.
    pub(super) algorithm: &'a [u8],
    /// The key itself, in the form of its algorithm.
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Finds the public key in a certificate; `None` when these bytes are no certificate.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (mut fields, _) = expect(SEQUENCE, certificate)?;
        if let (VERSION, _, rest) = element(fields)? {
            fields = rest;
        }
        // Serial number, signature algorithm, issuer, validity, subject.
        for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
            (_, fields) = expect(tag, fields)?;
        }
        let (info, _) = expect(SEQUENCE, fields)?;
        let (algorithm, rest) = expect(SEQUENCE, info)?;
        let (bits, _) = expect(BIT_STRING, rest)?;
        // The first byte counts the unused bits at the end: none in a key.
        let bits = bits.strip_prefix(&[0])?;
        Some(Self { algorithm, bits })
    }

    /// Modulus and exponent of an RSA key (RFC 8017 appendix A.1.1), without leading zeros.
    pub(super) fn rsa(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (numbers, _) = expect(SEQUENCE, self.bits)?;
        let (modulus, rest) = expect(INTEGER, numbers)?;
        let (exponent, _) = expect(INTEGER, rest)?;
        Some((without_zeros(modulus), without_zeros(exponent)))
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// The first element: its tag, its contents, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length: usize, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// Reads a chain and its key.
///
/// # Errors
/// The chain or the key cannot be read, TLS cannot sign with the key, or it is not the certificate's.
pub fn certified_key(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(chain)?;
    let key = private_key(key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|e| TlsError::Key(e.to_string()))?;
    let shown = chain.first().and_then(|leaf| PublicKey::of(leaf));
    let shown = shown.ok_or_else(|| TlsError::Certificate("it has no public key".to_owned()))?;
    // rustls would compare them itself, but reads the certificate more strictly than needed here.
    let own = key.public_key();
    let own = own.as_ref().and_then(|info| {
        let (info, _) = expect(SEQUENCE, info)?;
        let (_, rest) = expect(SEQUENCE, info)?;
        Some(expect(BIT_STRING, rest)?.0)
    });
    match own.and_then(|bits| bits.strip_prefix(&[0])) {
        Some(bits) if bits != shown.bits => Err(TlsError::Mismatch),
        _ => Ok(Arc::new(CertifiedKey::new(chain, key))),
    }
}

/// Reads a private key in PEM.
pub(super) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| TlsError::Key(e.to_string()))
}

/// Reads certificates in PEM; at least one.
///
/// # Errors
/// The text holds none, or a block of it is damaged.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|e| TlsError::Certificate(e.to_string()))?;
    if found.is_empty() { Err(TlsError::Certificate("no certificate in the PEM text".to_owned())) } else { Ok(found) }
}

/// Makes a certificate for `localhost`, signed by itself, for a node without one.
///
/// # Errors
/// The system gives no randomness.
pub fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| TlsError::Config(e.to_string()))?;
    certified_key(&made.cert.pem(), &made.signing_key.serialize_pem())
}
