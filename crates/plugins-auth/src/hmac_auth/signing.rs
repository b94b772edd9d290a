//! The signature of a request: an HMAC of a line for each name that the client lists. Kong: `create_hash` of its
//! `access.lua`.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cardinal_http::{RequestHead, Version};
use cardinal_sdk::Exchange;
use subtle::ConstantTimeEq;

use super::parameters::Parameters;

/// Most names that a signature may list.
pub(super) const NAMES_MAX: usize = 100;

/// The longest signature in base64: that of SHA-512.
const SIGNATURE_MAX: usize = 88;

/// Padding is cut off before.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// An algorithm that signatures are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// `hmac-sha256`
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha224 => "hmac-sha224",
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    /// A key of this secret.
    pub(super) fn key(self, secret: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => hmac::HMAC_SHA224,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, secret)
    }
}

/// The signature that the request should have; `None` when the list of names makes the signed text longer than the
/// request, which takes names that are repeated.
pub(super) fn sign(
    key: &hmac::Key,
    (request, exchange): (&RequestHead, &Exchange),
    parameters: &Parameters<'_>,
) -> Option<hmac::Tag> {
    let original = &exchange.original;
    let bytes_max = request.headers.line_bytes() + 2 * original.target.len() + parameters.headers.len() + 128;
    let mut text = SignedText { context: hmac::Context::with_key(key), left: bytes_max };
    let method = original.method.as_str();
    for (at, name) in parameters.names().enumerate() {
        if at > 0 {
            text.add(&[b"\n"])?;
        }
        match (request.headers.get(name), name) {
            (Some(value), _) => text.add(&[name, b": ", value])?,
            (None, b"@request-target") => {
                text.add(&[name, b": ", method.to_ascii_lowercase().as_bytes(), b" ", &original.target])?;
            }
            (None, b"request-line") => {
                let version = protocol(exchange.client.version);
                text.add(&[method.as_bytes(), b" ", &original.target, b" ", version])?;
            }
            (None, _) => text.add(&[name, b":"])?,
        }
    }
    Some(text.context.sign())
}

/// As request lines have it, also for HTTP/2.
const fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::H10 => b"HTTP/1.0",
        Version::H11 => b"HTTP/1.1",
        Version::H2 => b"HTTP/2.0",
    }
}

struct SignedText {
    context: hmac::Context,
    /// Bytes that may be added.
    left: usize,
}

impl SignedText {
    fn add(&mut self, parts: &[&[u8]]) -> Option<()> {
        for part in parts {
            self.left = self.left.checked_sub(part.len())?;
            self.context.update(part);
        }
        Some(())
    }
}

/// Whether `given`, in base64, is the signature. What follows its padding is ignored, as in nginx.
pub(super) fn is_signature(tag: &hmac::Tag, given: &[u8]) -> bool {
    let given = given.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut decoded = [0; SIGNATURE_MAX];
    let len = if given.len() > SIGNATURE_MAX { None } else { BASE64.decode_slice(given, &mut decoded).ok() };
    let given = len.and_then(|len| decoded.get(..len)).unwrap_or_default();
    bool::from(tag.as_ref().ct_eq(given))
}
