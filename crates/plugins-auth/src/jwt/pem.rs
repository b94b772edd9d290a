//! Public keys in PEM (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of PEM that are read: an RSA key of 8192 bits has under 2 KiB.
const PEM_MAX: usize = 64 << 10;

/// The DER of the first public key: `PUBLIC KEY` (SubjectPublicKeyInfo) or `RSA PUBLIC KEY` (PKCS#1).
pub(super) fn public_key(text: &str) -> Option<Vec<u8>> {
    if text.len() > PEM_MAX {
        return None;
    }
    ["PUBLIC KEY", "RSA PUBLIC KEY"].iter().find_map(|label| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let body: String = body.split_ascii_whitespace().collect();
        STANDARD.decode(body).ok().filter(|der| !der.is_empty())
    })
}
