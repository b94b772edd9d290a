//! Sessions of browsers: a document in the store, and a signed cookie that names it.
//!
//! The signature covers the user's hashed token, so that a session ends when the token is changed, and the time of the last
//! request, so that it ends when it is idle. Every control plane of a store can check it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::token::Keys;

/// Name of the cookie, as in Kong.
const COOKIE: &str = "admin_session";
/// Part of the idle time after which the cookie is written anew.
const RENEWALS: i64 = 10;

/// Name of the cookie.
pub(crate) fn cookie() -> &'static str {
    COOKIE
}

/// How long sessions last, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// After the last request.
    pub idle: i64,
    /// After the login.
    pub absolute: i64,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self { idle: 900, absolute: 43_200 }
    }
}

/// A session that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Id of its document.
    pub(crate) id: String,
    /// What has to come with writes.
    pub(crate) csrf: String,
    /// A new value of the cookie, if it is time for one.
    pub(crate) renewed: Option<String>,
    /// When it ends whatever happens, in seconds since 1970.
    pub(crate) expires_at: i64,
}

/// What a cookie says, before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim<'c> {
    pub(super) id: &'c str,
    seen_at: i64,
    signature: &'c str,
}

impl<'c> Claim<'c> {
    /// The claim in a `Cookie` header.
    pub(super) fn of_header(header: &'c str) -> Option<Self> {
        let pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.into_iter().find(|(name, _)| *name == COOKIE)?.1;
        let mut parts = value.split('.');
        let (id, seen_at, signature) = (parts.next()?, parts.next()?, parts.next()?);
        // Only the form that is written here: the signature is of the texts.
        let seen_at = seen_at.parse::<i64>().ok().filter(|at| at.to_string() == seen_at)?;
        parts.next().is_none().then_some(Self { id, seen_at, signature })
    }

    /// Whether the claim was signed here, for a user with this hashed token, and is not too old.
    pub(super) fn is_valid(&self, keys: &Keys, (user, hash): (&str, &str), times: SessionTimes, now: i64) -> bool {
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(self.signature) else { return false };
        let signed = message(&[self.id, user, &self.seen_at.to_string(), hash]);
        hmac::verify(&keys.sessions, &signed, &signature).is_ok() && now.saturating_sub(self.seen_at) <= times.idle
    }

    /// Whether it is time for a new cookie.
    pub(super) fn is_to_be_renewed(&self, times: SessionTimes, now: i64) -> bool {
        now.saturating_sub(self.seen_at) > times.idle / RENEWALS
    }
}

/// The value of a cookie.
pub(super) fn signed(keys: &Keys, id: &str, (user, hash): (&str, &str), now: i64) -> String {
    let signature = hmac::sign(&keys.sessions, &message(&[id, user, &now.to_string(), hash]));
    format!("{id}.{now}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// The token that has to come with writes of a session.
pub(super) fn csrf(keys: &Keys, id: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&keys.sessions, &message(&["csrf", id])))
}

/// Texts with their lengths, so that no two lists have the same form.
fn message(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&part.len().to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: SessionTimes = SessionTimes { idle: 100, absolute: 1_000 };

    fn check(header: &str, user: (&str, &str), now: i64, expect: bool) {
        let valid =
            Claim::of_header(header).is_some_and(|claim| claim.is_valid(&Keys::new(&[1; 32]), user, TIMES, now));
        assert_eq!(valid, expect, "{header} at {now}");
    }

    #[test]
    fn a_cookie_is_valid_for_one_user_and_token_until_it_is_idle() {
        let (keys, user) = (Keys::new(&[1; 32]), ("u", "hash"));
        let value = signed(&keys, "id", user, 500);
        let header = format!("a=b; admin_session={value}; c=d");
        check(&header, user, 500, true);
        check(&header, user, 600, true);
        check(&header, user, 601, false);
        check(&header, ("v", "hash"), 500, false);
        check(&header, ("u", "other"), 500, false);
        check(&header.replace("id.500", "ie.500"), user, 500, false);
        check(&header.replace("id.500", "id.600"), user, 600, false);
        check(&header.replace("id.500", "id.+500"), user, 500, false);
        check(&format!("admin_session={}", signed(&Keys::new(&[2; 32]), "id", user, 500)), user, 500, false);
        for wrong in ["", "admin_session=", "admin_session=a.b.c", "admin_session=id.500", "admin_session=id.500.!.x"] {
            check(wrong, user, 500, false);
        }
    }

    #[test]
    fn a_cookie_is_renewed_after_a_tenth_of_the_idle_time() {
        let header = format!("admin_session={}", signed(&Keys::new(&[1; 32]), "id", ("u", "h"), 500));
        let claim = Claim::of_header(&header).unwrap();
        assert!(!claim.is_to_be_renewed(TIMES, 510) && claim.is_to_be_renewed(TIMES, 511));
        assert_ne!(csrf(&Keys::new(&[1; 32]), "id"), csrf(&Keys::new(&[1; 32]), "ie"));
    }
}
