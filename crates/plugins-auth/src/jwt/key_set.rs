//! JSON Web Key Sets (RFC 7517, RFC 7518 section 6, RFC 8037 section 2): the public keys in them that can sign tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::{Algorithm, PublicKey};

/// Keys of a set that are kept.
const KEYS_MAX: usize = 100;

/// The keys of one set.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<SetKey>,
}

#[derive(Debug)]
struct SetKey {
    kid: Option<Box<str>>,
    /// The key, once for each algorithm it can be used with.
    uses: Vec<(Algorithm, PublicKey)>,
}

/// Which key a token means.
#[derive(Debug)]
pub(super) enum Selected<'s> {
    Key(&'s PublicKey),
    /// No key has the token's `kid`. (A newer set may.)
    Unknown,
    /// The key is for other algorithms.
    OtherAlgorithm,
    /// The token has no `kid`, and not exactly one key fits.
    Ambiguous,
}

impl KeySet {
    /// Reads a set. Keys that cannot verify signatures here are left out; a set must have one that can.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let value: Value = serde_json::from_slice(text).map_err(|_| "it is not JSON")?;
        let keys = value.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
        let keys: Vec<_> = keys.iter().filter_map(SetKey::parse).take(KEYS_MAX).collect();
        if keys.is_empty() { Err("it has no key that can verify tokens") } else { Ok(Self { keys }) }
    }

    /// The key with this id for this algorithm. Without an id, the only key that fits.
    pub(super) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Selected<'_> {
        let mut named = self.keys.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).peekable();
        if named.peek().is_none() {
            return Selected::Unknown;
        }
        let mut fitting = named.filter_map(|key| key.uses.iter().find(|(of, _)| *of == algorithm)).map(|(_, key)| key);
        match (fitting.next(), fitting.next()) {
            (None, _) => Selected::OtherAlgorithm,
            (Some(_), Some(_)) if kid.is_none() => Selected::Ambiguous,
            (Some(key), _) => Selected::Key(key),
        }
    }
}

impl SetKey {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let operations = key.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return None;
        }
        let only = match text("alg") {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let algorithms = Algorithm::ALL.into_iter().filter(|algorithm| only.is_none_or(|only| only == *algorithm));
        let uses: Vec<_> = algorithms.filter_map(|algorithm| Some((algorithm, public_key(algorithm, key)?))).collect();
        (!uses.is_empty()).then(|| Self { kid: text("kid").map(Into::into), uses })
    }
}

/// The key as one of the algorithm's kind.
fn public_key(algorithm: Algorithm, key: &Value) -> Option<PublicKey> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let (kty, curve) = (text("kty")?, text("crv").unwrap_or_default());
    match algorithm {
        Algorithm::Es256 if (kty, curve) == ("EC", "P-256") => point(algorithm, &bytes("x")?, &bytes("y")?, 32),
        Algorithm::Es384 if (kty, curve) == ("EC", "P-384") => point(algorithm, &bytes("x")?, &bytes("y")?, 48),
        Algorithm::Es512 if (kty, curve) == ("EC", "P-521") => point(algorithm, &bytes("x")?, &bytes("y")?, 66),
        Algorithm::EdDsa if (kty, curve) == ("OKP", "Ed25519") => PublicKey::from_der(algorithm, &bytes("x")?).ok(),
        rsa if rsa.rsa().is_some() && kty == "RSA" => PublicKey::from_rsa(rsa, &bytes("n")?, &bytes("e")?).ok(),
        _ => None,
    }
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn point(algorithm: Algorithm, x: &[u8], y: &[u8], len: usize) -> Option<PublicKey> {
    if x.len() != len || y.len() != len {
        return None;
    }
    PublicKey::from_der(algorithm, &[&[4], x, y].concat()).ok()
}
