//! Certificates and keys in PEM and DER.
//!
//! A certificate that a node presents, or that it does not verify, may be in any form that contains a public key: X.509
//! version 1, unreadable extensions, an unusual validity. So [`Fields`] only splits it, by the field order of RFC 5280
//! section 4.1.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::words::text;

/// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit: the version.
const VERSION: u8 = 0xa0;
/// `[3]`, explicit: the extensions.
const EXTENSIONS: u8 = 0xa3;

/// The public key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// The contents of the algorithm identifier: an object id and parameters.
    pub(super) algorithm: &'a [u8],
    /// The key itself, in the form of its algorithm.
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Finds the public key in a certificate; `None` if the bytes are not a certificate.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        Some(Fields::of(certificate)?.key)
    }

    /// Modulus and exponent of an RSA key (RFC 8017 appendix A.1.1), without leading zeros.
    pub(super) fn rsa(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (numbers, _) = expect(SEQUENCE, self.bits)?;
        let (modulus, rest) = expect(INTEGER, numbers)?;
        let (exponent, _) = expect(INTEGER, rest)?;
        Some((without_zeros(modulus), without_zeros(exponent)))
    }
}

/// The fields of a certificate (RFC 5280 section 4.1), as element contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) issuer: &'a [u8],
    /// Two times.
    pub(super) validity: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) key: PublicKey<'a>,
    /// Absent before X.509 version 3.
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Splits a certificate; `None` if the bytes are not a certificate.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (mut rest, _) = expect(SEQUENCE, certificate)?;
        if let (VERSION, _, after) = element(rest)? {
            rest = after;
        }
        let mut next = |tag| {
            let (contents, after) = expect(tag, rest)?;
            rest = after;
            Some(contents)
        };
        let (_serial, _signature) = (next(INTEGER)?, next(SEQUENCE)?);
        let (issuer, validity, subject, info) = (next(SEQUENCE)?, next(SEQUENCE)?, next(SEQUENCE)?, next(SEQUENCE)?);
        let (algorithm, bits) = expect(SEQUENCE, info)?;
        let (bits, _) = expect(BIT_STRING, bits)?;
        // The first byte is the number of unused bits at the end, which is 0 for a key.
        let key = PublicKey { algorithm, bits: bits.strip_prefix(&[0])? };
        let extensions = elements(rest).find(|(tag, _)| *tag == EXTENSIONS);
        let extensions = extensions.and_then(|(_, contents)| expect(SEQUENCE, contents)).unwrap_or_default().0;
        Some(Self { issuer, validity, subject, key, extensions })
    }

    pub(super) fn has_extensions(&self) -> bool {
        !self.extensions.is_empty()
    }

    /// The value of the extension with this object id.
    pub(super) fn extension(&self, id: &[u8]) -> Option<&'a [u8]> {
        elements(self.extensions).find_map(|(_, extension)| {
            let (found, rest) = expect(OBJECT_ID, extension)?;
            // An element in between may state whether the extension is critical.
            let value = elements(rest).find(|(tag, _)| *tag == OCTET_STRING);
            value.filter(|_| found == id).map(|(_, value)| value)
        })
    }
}

/// The consecutive elements, with their tags, up to a malformed one.
pub(super) fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, contents, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, contents))
    })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

pub(super) fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// The first element: its tag, its contents, and the remaining bytes.
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
/// If the chain or the key cannot be read, TLS cannot sign with the key, or the key does not match the certificate.
pub fn certified_key(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(chain)?;
    let key = private_key(key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|e| TlsError::Key(text(&e).into()))?;
    let shown = chain.first().and_then(|leaf| PublicKey::of(leaf));
    let shown = shown.ok_or_else(|| TlsError::Certificate("it has no public key".to_owned()))?;
    // rustls could compare them itself, but parses the certificate more strictly than needed here.
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

/// Reads certificates in PEM; at least one is required.
///
/// # Errors
/// If the text contains none, or a block of it is malformed.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|e| TlsError::Certificate(e.to_string()))?;
    if found.is_empty() { Err(TlsError::Certificate("no certificate in the PEM text".to_owned())) } else { Ok(found) }
}

/// Creates a self-signed certificate for `localhost`, for a node without certificates.
///
/// # Errors
/// If the system provides no randomness.
pub fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| TlsError::Config(e.to_string()))?;
    certified_key(&made.cert.pem(), &made.signing_key.serialize_pem())
}
