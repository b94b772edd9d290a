//! Trust bundles as JWK sets (SPIFFE Trust Domain and Bundle section 4, X509-SVID section 6).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{BUNDLE_BYTES_MAX, BundleError, TrustBundle};
use crate::TrustDomain;
use crate::leaf::parse;

/// The `use` of authorities of X.509-SVIDs.
const USE: &str = "x509-svid";

impl TrustBundle {
    /// Reads a SPIFFE bundle. Keys of other uses (JWT-SVID) and keys without a certificate are ignored, as the standard
    /// demands; so the bundle may come out empty, and then trusts nobody.
    ///
    /// # Errors
    /// The text is no JWK set, or a certificate in it cannot be used.
    pub fn from_json(domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        if text.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLong);
        }
        let set: Map<String, Value> = serde_json::from_slice(text).map_err(BundleError::Json)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(BundleError::Form("`keys` is not an array"))?;
        let mut certificates = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            // Of several certificates the first one is the authority.
            let certificate = key.get("x5c").and_then(|chain| chain.get(0)).and_then(Value::as_str);
            if let Some(text) = certificate.filter(|_| key.get("use").and_then(Value::as_str) == Some(USE)) {
                let der = STANDARD.decode(text).map_err(|_| BundleError::Base64(index))?;
                certificates.push(CertificateDer::from(der));
            }
        }
        let number = |name: &str, error| match set.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(BundleError::Form(error)),
        };
        let sequence = number("spiffe_sequence", "`spiffe_sequence` is not a number")?;
        let refresh = number("spiffe_refresh_hint", "`spiffe_refresh_hint` is not a number of seconds")?;
        Ok(Self::new(domain, certificates)?.with_publication(sequence, refresh.map(Duration::from_secs)))
    }

    /// The bundle as a JWK set.
    ///
    /// # Errors
    /// An authority has a key of a kind that has no JWK form here.
    pub fn to_json(&self) -> Result<String, BundleError> {
        let mut keys = Vec::new();
        for (index, der) in self.certificates().enumerate() {
            let parsed = parse(der).map_err(|_| BundleError::Malformed(index))?;
            let mut key = jwk(parsed.public_key()).ok_or(BundleError::KeyType(index))?;
            key.insert("use".to_owned(), USE.into());
            key.insert("x5c".to_owned(), json!([STANDARD.encode(der)]));
            keys.push(Value::Object(key));
        }
        let mut set = Map::new();
        set.insert("keys".to_owned(), keys.into());
        if let Some(sequence) = self.sequence() {
            set.insert("spiffe_sequence".to_owned(), sequence.into());
        }
        if let Some(hint) = self.refresh_hint() {
            set.insert("spiffe_refresh_hint".to_owned(), hint.as_secs().into());
        }
        Ok(Value::Object(set).to_string())
    }
}

/// A public key as a JWK (RFC 7518 section 6, RFC 8037 section 2).
fn jwk(key: &SubjectPublicKeyInfo<'_>) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    let mut member = |name: &str, value: &str| members.insert(name.to_owned(), value.into());
    match key.parsed().ok()? {
        PublicKey::EC(point) => {
            // 4, then both coordinates: a point that is not compressed.
            let coordinates = point.data().strip_prefix(&[4])?;
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
            let curve = match x.len() {
                32 => "P-256",
                48 => "P-384",
                66 => "P-521",
                _ => return None,
            };
            member("kty", "EC");
            member("crv", curve);
            member("x", &URL_SAFE_NO_PAD.encode(x));
            member("y", &URL_SAFE_NO_PAD.encode(y));
        }
        PublicKey::RSA(rsa) => {
            member("kty", "RSA");
            member("n", &URL_SAFE_NO_PAD.encode(without_zeros(rsa.modulus)));
            member("e", &URL_SAFE_NO_PAD.encode(without_zeros(rsa.exponent)));
        }
        PublicKey::Unknown(_) if key.algorithm.algorithm.to_id_string() == ED25519 => {
            member("kty", "OKP");
            member("crv", "Ed25519");
            member("x", &URL_SAFE_NO_PAD.encode(&key.subject_public_key.data));
        }
        _ => return None,
    }
    Some(members)
}

/// The object id of Ed25519 keys (RFC 8410).
const ED25519: &str = "1.3.101.112";

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}
