//! [`Fields`]: header fields for the `h2` crate, which wants each name and value as an object of its own.
//!
//! Most fields of most messages have been sent before. Names, and the value that each had last, are kept: to send them
//! again costs no allocation and no second look at their bytes.

use std::cell::RefCell;

use cardinal_http::{HeaderList, Name};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Names that a thread keeps.
const KEPT: usize = 128;

/// Longest name or value that is kept, bytes.
const KEPT_BYTES_MAX: usize = 64;

/// Fields that are made room for at once.
const ROOM_MAX: usize = 256;

/// A name as it was given, and what was made of it.
struct Known {
    given: Box<[u8]>,
    name: HeaderName,
    /// The last value; `None` for those that are nobody's business.
    value: Option<HeaderValue>,
}

thread_local! {
    static KNOWN: RefCell<Vec<Option<Known>>> = RefCell::new((0..KEPT).map(|_| None).collect());
    static AUTHORITY: RefCell<Option<Authority>> = const { RefCell::new(None) };
}

/// Fields of a message, without those that belong to an HTTP/1 connection (RFC 9113 section 8.2.2).
#[derive(Debug)]
pub struct Fields(HeaderMap);

impl Fields {
    /// No fields, with room for some.
    pub fn with_capacity(count: usize) -> Self {
        Self(HeaderMap::with_capacity(count.min(ROOM_MAX)))
    }

    /// All of a list.
    pub fn of(list: &HeaderList) -> Self {
        let mut fields = Self::with_capacity(list.len());
        for (id, name, value) in list.iter_known() {
            fields.append(id, name, value);
        }
        fields
    }

    /// Adds a field, unless it has no place in HTTP/2. `id` is the name's, as [`Name::of`] has it.
    pub fn append(&mut self, id: Name, name: &[u8], value: &[u8]) {
        match id {
            Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Host => return,
            Name::Te if !value.eq_ignore_ascii_case(b"trailers") => return,
            _ => {}
        }
        if let Some((name, value)) = made(name, value) {
            // Fails at more fields than any limit allows.
            self.0.try_append(name, value).ok();
        }
    }

    pub(super) fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// Name and value as objects; `None` when one is illegal.
fn made(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    KNOWN.with_borrow_mut(|known| {
        let Some(slot) = known.get_mut(place(name)).filter(|_| name.len() <= KEPT_BYTES_MAX) else {
            return Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?));
        };
        if let Some(found) = slot
            && *found.given == *name
        {
            if let Some(last) = &found.value
                && last.as_bytes() == value
            {
                return Some((found.name.clone(), last.clone()));
            }
            let value = HeaderValue::from_bytes(value).ok()?;
            keep(found, &value);
            return Some((found.name.clone(), value));
        }
        let value = HeaderValue::from_bytes(value).ok()?;
        let found = slot.insert(Known { given: name.into(), name: HeaderName::from_bytes(name).ok()?, value: None });
        keep(found, &value);
        Some((found.name.clone(), value))
    })
}

fn keep(known: &mut Known, value: &HeaderValue) {
    let secret =
        matches!(known.name, header::AUTHORIZATION | header::PROXY_AUTHORIZATION | header::COOKIE | header::SET_COOKIE);
    known.value = (!secret && value.len() <= KEPT_BYTES_MAX).then(|| value.clone());
}

/// Where a name is kept: by its ends and its length.
fn place(name: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let ends = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => name.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    usize::try_from((ends ^ name.len() as u64).wrapping_mul(MIX) >> 57).unwrap_or_default()
}

/// An authority as an object: nearly always the one that was asked for last.
pub(super) fn authority_of(text: &[u8]) -> Option<Authority> {
    AUTHORITY.with_borrow_mut(|last| {
        if let Some(last) = last
            && last.as_str().as_bytes() == text
        {
            return Some(last.clone());
        }
        let made = Authority::try_from(text).ok()?;
        *last = (text.len() <= 4 * KEPT_BYTES_MAX).then(|| made.clone());
        Some(made)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &HeaderList, expect: &[(&str, &str)]) {
        let map = Fields::of(list).into_map();
        let got: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn fields_are_the_same_the_first_and_the_second_time() {
        let long = "v".repeat(KEPT_BYTES_MAX + 1);
        for round in ["one", "one", "two"] {
            let mut list = HeaderList::new();
            for (name, value) in [
                ("X-Own", round),
                ("x-own", "other case"),
                ("Content-Type", "text/plain"),
                ("Connection", "x-own"),
                ("TE", "gzip"),
                ("te", "Trailers"),
                ("Set-Cookie", "a=b"),
                ("x-long", &long),
                ("via", "1.1 a"),
                ("via", "1.1 b"),
            ] {
                assert!(list.append(name.as_bytes(), value.as_bytes()));
            }
            check(
                &list,
                &[
                    ("x-own", round),
                    ("x-own", "other case"),
                    ("content-type", "text/plain"),
                    ("te", "Trailers"),
                    ("set-cookie", "a=b"),
                    ("x-long", &long),
                    ("via", "1.1 a"),
                    ("via", "1.1 b"),
                ],
            );
        }
    }

    #[test]
    fn many_names_share_few_places() {
        for round in 0..2 {
            for at in 0..4 * KEPT {
                let (name, value) = (format!("x-{at}"), format!("{round}"));
                let (made, is) = made(name.as_bytes(), value.as_bytes()).unwrap();
                assert_eq!((made.as_str(), is.as_bytes()), (name.as_str(), value.as_bytes()));
            }
        }
        assert!(made(b"a b", b"x").is_none() && made(b"a", b"x\n").is_none() && made(b"", b"").is_none());
    }

    #[test]
    fn secrets_are_not_kept() {
        for name in ["authorization", "cookie", "set-cookie"] {
            made(name.as_bytes(), b"secret").unwrap();
            KNOWN.with_borrow(|known| assert!(known[place(name.as_bytes())].as_ref().unwrap().value.is_none()));
        }
    }

    #[test]
    fn authorities_do_not_mix() {
        for text in ["a.test", "a.test", "b.test:81", "[::1]:80"] {
            assert_eq!(authority_of(text.as_bytes()).unwrap().as_str(), text);
        }
        assert!(authority_of(b"a b").is_none());
    }
}
