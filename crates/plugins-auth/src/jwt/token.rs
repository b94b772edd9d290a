//! Taking a token apart (RFC 7515 section 7.1), strictly and within bounds.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;

/// Bytes a token may have.
pub const TOKEN_MAX: usize = 32 << 10;

/// A decoded token. Its contents are untrusted until its signature is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Token<'t> {
    /// The algorithm in its header.
    pub algorithm: Algorithm,
    /// The header.
    pub header: Map<String, Value>,
    /// The payload.
    pub claims: Map<String, Value>,
    /// What the signature is over.
    pub signed: &'t [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// What is wrong with a token. The texts are Kong's where Kong has the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than [`TOKEN_MAX`] bytes.
    #[error("token too large")]
    TooLarge,
    /// Not three parts, or header or payload are not base64url or not JSON objects.
    #[error("invalid JSON")]
    Json,
    /// `alg` is missing, or none of [`Algorithm::ALL`].
    #[error("invalid alg")]
    Algorithm,
    /// The header demands extensions (`crit`, RFC 7515 section 4.1.11); there are none.
    #[error("invalid crit")]
    Critical,
    /// The payload is not an object.
    #[error("invalid claims")]
    Claims,
    /// The signature is not base64url.
    #[error("invalid signature")]
    Signature,
}

/// Takes a token apart.
///
/// # Errors
/// [`TokenError`] for what is not `header.payload.signature`, each in base64url without padding.
pub fn parse(token: &[u8]) -> Result<Token<'_>, TokenError> {
    if token.len() > TOKEN_MAX {
        return Err(TokenError::TooLarge);
    }
    let mut parts = token.splitn(3, |b| *b == b'.');
    let (header64, claims64) = (parts.next().unwrap_or_default(), parts.next().ok_or(TokenError::Json)?);
    let (Value::Object(header), claims) = (json(header64)?, json(claims64)?) else { return Err(TokenError::Json) };
    let algorithm =
        header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse).ok_or(TokenError::Algorithm)?;
    if header.contains_key("crit") {
        return Err(TokenError::Critical);
    }
    let Value::Object(claims) = claims else { return Err(TokenError::Claims) };
    let signature = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or(TokenError::Signature)?;
    let signed = token.get(..header64.len() + 1 + claims64.len()).ok_or(TokenError::Json)?;
    Ok(Token { algorithm, header, claims, signed, signature })
}

fn json(part: &[u8]) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Json)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Json)
}

impl Token<'_> {
    /// A claim, or a header parameter of that name where the payload has none.
    pub(super) fn claim_or_parameter(&self, name: &str) -> Option<&Value> {
        let there = |value: &&Value| !matches!(value, Value::Null | Value::Bool(false));
        self.claims.get(name).filter(there).or_else(|| self.header.get(name).filter(there))
    }
}

/// Base64 in either alphabet, padded or not, as people write secrets.
pub(super) fn decode_lenient(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    ENGINE.decode(text.replace('+', "-").replace('/', "_")).ok()
}
