//! Tokens: how they are hashed and found.
//!
//! A token is stored as a salted PBKDF2 hash, since it may be a password of a person. To find its user without trying all
//! hashes, the user also has an ident: a few bits of an HMAC of the token, with a key that is kept encrypted in the store.
//! Who sends a wrong token hits an ident by chance at most, so that hardly any wrong token costs a slow hash.

use std::num::NonZeroU32;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// Bytes of a token at most.
pub(super) const TOKEN_BYTES_MAX: usize = 512;
/// Rounds of new hashes: OWASP's advice for PBKDF2-HMAC-SHA512 in 2023, a tenth of a second.
const ROUNDS: NonZeroU32 = NonZeroU32::new(210_000).expect("not zero");
/// Rounds of a stored hash at most.
const ROUNDS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const SCHEME: &str = "pbkdf2-sha512";
/// Hexadecimal digits of an ident, as Kong has it.
const IDENT_DIGITS: usize = 5;

/// The keyed digest of a token, under which this process remembers it.
pub(super) type Digest = [u8; 32];

/// The keys that are derived from the secret of the store.
#[derive(Debug)]
pub(crate) struct Keys {
    tokens: hmac::Key,
    pub(super) sessions: hmac::Key,
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        HASH_BYTES
    }
}

impl Keys {
    /// The keys of a secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"cardinal rbac").extract(secret);
        let key = |purpose: &str| {
            let mut bytes = [0; HASH_BYTES];
            // The length is one of the hash function's own, so that it cannot fail; a key of zeros would be no key.
            let filled = secret.expand(&[purpose.as_bytes()], Bytes32).and_then(|okm| okm.fill(&mut bytes));
            assert!(filled.is_ok(), "HKDF gives {HASH_BYTES} bytes");
            hmac::Key::new(hmac::HMAC_SHA256, &bytes)
        };
        Self { tokens: key("tokens"), sessions: key("sessions") }
    }

    pub(super) fn digest(&self, token: &str) -> Digest {
        let tag = hmac::sign(&self.tokens, token.as_bytes());
        let mut digest = Digest::default();
        digest.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        digest
    }
}

/// The few digits of a digest by which users are found.
pub(super) fn ident(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(IDENT_DIGITS).collect()
}

/// Hashes a token. It takes about a tenth of a second.
pub(super) fn hash(token: &str, salt: [u8; SALT_BYTES]) -> String {
    let mut out = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ROUNDS, &salt, token.as_bytes(), &mut out);
    let (salt, hash) = (BASE64_STANDARD_NO_PAD.encode(salt), BASE64_STANDARD_NO_PAD.encode(out));
    format!("${SCHEME}$i={ROUNDS},l={HASH_BYTES}${salt}${hash}")
}

/// Whether a hash is that of a token; what is no hash is that of none. It takes about a tenth of a second, and the same time
/// for every token.
pub(super) fn verify(token: &str, stored: &str) -> bool {
    parsed(stored).is_some_and(|(rounds, salt, hash)| {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &salt, token.as_bytes(), &hash).is_ok()
    })
}

fn parsed(stored: &str) -> Option<(NonZeroU32, Vec<u8>, Vec<u8>)> {
    let mut parts = stored.strip_prefix('$')?.split('$');
    let (scheme, options, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (rounds, length) = options.strip_prefix("i=")?.split_once(",l=")?;
    let rounds = rounds.parse::<NonZeroU32>().ok().filter(|rounds| rounds.get() <= ROUNDS_MAX)?;
    let (salt, hash) = (BASE64_STANDARD_NO_PAD.decode(salt).ok()?, BASE64_STANDARD_NO_PAD.decode(hash).ok()?);
    let is_sound = scheme == SCHEME && parts.next().is_none() && length.parse() == Ok(hash.len());
    (is_sound && hash.len() == HASH_BYTES).then_some((rounds, salt, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_one_token() {
        let stored = hash("secret", [7; SALT_BYTES]);
        assert!(stored.starts_with("$pbkdf2-sha512$i=210000,l=32$") && !stored.contains("secret"), "{stored}");
        assert!(verify("secret", &stored) && !verify("Secret", &stored));
        assert_ne!(stored, hash("secret", [8; SALT_BYTES]));
    }

    #[test]
    fn what_is_no_hash_is_that_of_no_token() {
        let whole = "$pbkdf2-sha512$i=1,l=32$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(parsed(whole).is_some());
        for wrong in [
            "",
            "secret",
            "$",
            "$pbkdf2-sha512$i=1,l=0$c2FsdA$",
            "$pbkdf2-sha512$i=0,l=32$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$pbkdf2-sha512$i=4000000000,l=32$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$pbkdf2-sha256$i=1,l=32$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(parsed(wrong).is_none() && !verify("", wrong), "{wrong}");
        }
        assert!(parsed(&format!("{whole}$x")).is_none());
    }

    #[test]
    fn idents_depend_on_the_secret() {
        let (a, b) = (Keys::new(&[1; 32]), Keys::new(&[2; 32]));
        assert_eq!(ident(&a.digest("x")), ident(&a.digest("x")));
        assert_ne!(ident(&a.digest("x")), ident(&b.digest("x")));
        assert_eq!(ident(&a.digest("x")).len(), IDENT_DIGITS);
    }
}
