//! The identifier by which requests are counted, as text.
//!
//! Texts other than ids, paths and addresses (header values, credentials that are not in the configuration) are written
//! unchanged, as in Kong, so that nodes of both can share a Redis server. The exception are texts that a client could
//! choose to match the identifier of another client: an address, a consumer, a path.

use std::io::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest;
use cardinal_ir::Id;
use cardinal_ir::policy::LimitBy;

use crate::{CredentialRef, HeadCx};

use super::Key;

/// Maximum length of a text that is written unchanged; a longer one is replaced by its digest.
const TEXT_MAX: usize = 128;

/// Kinds of texts, used as prefixes.
const KINDS: [&str; 2] = ["header", "credential"];

/// Writes the identifier of a request; its client address if the request does not have the property.
pub fn push_identifier(by: &LimitBy, cx: &HeadCx<'_>, key: &mut Key) {
    let identity = &cx.exchange.identity;
    let credential = || identity.credential.as_ref().map(CredentialRef::id);
    match by {
        LimitBy::All => return,
        LimitBy::Principal => match (&identity.principal, credential()) {
            (Some(principal), _) => return push_id(principal.id, key),
            (None, Some(credential)) => return push_text("credential", credential.as_bytes(), key),
            (None, None) => {}
        },
        LimitBy::Credential => {
            if let Some(credential) = credential() {
                return push_text("credential", credential.as_bytes(), key);
            }
        }
        LimitBy::Backend => {
            if let Some(backend) = &cx.exchange.backend {
                return push_id(backend.id(), key);
            }
        }
        LimitBy::Header(name) => {
            if let Some(value) = cx.request.headers.get(name.as_bytes()) {
                return push_text("header", value, key);
            }
        }
        LimitBy::Path(path) => {
            if *cx.path == *path.as_bytes() {
                return key.extend_from_slice(path.as_bytes());
            }
        }
        LimitBy::ClientAddress => {}
    }
    push_address(cx.client_ip(), key);
}

/// Writes an address.
pub fn push_address(address: IpAddr, key: &mut Key) {
    // Writing to memory does not fail.
    write!(key, "{address}").unwrap_or_default();
}

fn push_id(id: Id, key: &mut Key) {
    key.extend_from_slice(id.hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]).as_bytes());
}

/// Writes a text of this kind.
fn push_text(kind: &str, text: &[u8], key: &mut Key) {
    if text.len() > TEXT_MAX {
        key.extend_from_slice(kind.as_bytes());
        key.extend_from_slice(b":sha256:");
        for byte in digest::digest(&digest::SHA256, text).as_ref() {
            for nibble in [byte >> 4, byte & 15] {
                key.push(b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0'));
            }
        }
        return;
    }
    // The id of a credential is chosen by the configuration, not by the client.
    let is_own_id = kind == "credential" && is_id(text);
    if !is_own_id && stands_for_something_else(text) {
        key.extend_from_slice(kind.as_bytes());
        key.push(b':');
    }
    key.extend_from_slice(text);
}

fn stands_for_something_else(text: &[u8]) -> bool {
    let prefixed = |kind: &&str| text.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':'));
    let is_address = || std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
    text.first() == Some(&b'/') || is_id(text) || KINDS.iter().any(prefixed) || is_address()
}

fn is_id(text: &[u8]) -> bool {
    text.len() == uuid::fmt::Hyphenated::LENGTH && uuid::Uuid::try_parse_ascii(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Key, push_text};

    #[test]
    fn texts_do_not_stand_for_something_else() {
        let check = |kind: &str, text: &str, expect: &str| {
            let mut key = Key::new();
            push_text(kind, text.as_bytes(), &mut key);
            assert_eq!(String::from_utf8_lossy(&key), expect, "{kind} {text}");
        };
        check("header", "tenant-1", "tenant-1");
        check("header", "a:b", "a:b");
        check("header", "", "");
        check("header", "127.0.0.1", "header:127.0.0.1");
        check("header", "::1", "header:::1");
        check("header", "/path", "header:/path");
        check("header", "header:127.0.0.1", "header:header:127.0.0.1");
        check("header", "credential:x", "header:credential:x");
        let id = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        check("header", id, &format!("header:{id}"));
        check("credential", id, id);
        check("credential", "issuer", "issuer");
        check("credential", "127.0.0.1", "credential:127.0.0.1");
        let long = "x".repeat(129);
        let mut key = Key::new();
        push_text("header", long.as_bytes(), &mut key);
        assert_eq!((key.len(), key.starts_with(b"header:sha256:")), ("header:sha256:".len() + 64, true));
    }
}
