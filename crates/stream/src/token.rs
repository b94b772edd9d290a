//! [`JoinToken`]: what lets a data plane without a certificate join.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardinal_base::Clock;
use cardinal_ir::SecretKey;
use rustls_pki_types::CertificateDer;

/// What the key of the control plane is used for.
const PURPOSE: &str = "join token";
/// Begins a token.
const PREFIX: &str = "cardinal-join-1.";

/// The SHA-256 digest of a certificate in DER.
pub(crate) type CertificateDigest = [u8; 32];

pub(crate) fn certificate_digest(certificate: &CertificateDer<'_>) -> CertificateDigest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, certificate).as_ref());
    out
}

/// A text that lets data planes join until it expires. It is a secret. It also names the certificate of the authority, so that
/// a data plane knows its control plane by the token alone.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or was not made with the key of the control plane.
    #[error("the join token is not valid")]
    Invalid,
    /// It has expired.
    #[error("the join token has expired")]
    Expired,
}

impl JoinToken {
    /// Makes a token that is valid for so long. The certificate is that of the authority ([`Ca::root`](cardinal_pki::Ca::root)).
    pub fn issue(key: &SecretKey, authority: &CertificateDer<'_>, lifetime: Duration, clock: &dyn Clock) -> Self {
        let expires = clock.unix().seconds().saturating_add(lifetime.as_secs());
        let claims = [&expires.to_be_bytes()[..], cardinal_base::random_id().as_bytes()].concat();
        let code = key.authenticate(PURPOSE, &claims);
        let parts = [&claims[..], &code, &certificate_digest(authority)].map(|part| URL_SAFE_NO_PAD.encode(part));
        Self(format!("{PREFIX}{}", parts.join(".")))
    }

    /// Takes a text that may be a token.
    pub fn of_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text. It is a secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Verifies it.
    ///
    /// # Errors
    /// When it is not a token of this key, or has expired.
    pub fn verify(&self, key: &SecretKey, clock: &dyn Clock) -> Result<(), TokenError> {
        let [claims, code, _] = self.parts().ok_or(TokenError::Invalid)?;
        let expected = key.authenticate(PURPOSE, &claims);
        // No early end: how long it takes does not depend on where the first difference is.
        let differs = expected.iter().zip(&code).fold(0, |differs, (a, b)| differs | (a ^ b));
        if code.len() != expected.len() || differs != 0 {
            return Err(TokenError::Invalid);
        }
        let (expires, _) = claims.split_first_chunk::<8>().ok_or(TokenError::Invalid)?;
        if clock.unix().seconds() < u64::from_be_bytes(*expires) { Ok(()) } else { Err(TokenError::Expired) }
    }

    /// The digest of the authority's certificate.
    pub(crate) fn authority(&self) -> Result<CertificateDigest, TokenError> {
        let [_, _, authority] = self.parts().ok_or(TokenError::Invalid)?;
        authority.try_into().map_err(|_| TokenError::Invalid)
    }

    /// Claims, authentication code and digest.
    fn parts(&self) -> Option<[Vec<u8>; 3]> {
        let mut parts = self.0.strip_prefix(PREFIX)?.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let found = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(found)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}
