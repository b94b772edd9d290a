//! Reading and removing arguments of a query string by name, allocating only for what is percent-encoded.

use std::borrow::Cow;

use cardinal_http::query::decode;

/// Arguments that are looked at; a longer query costs no more.
const ARGUMENTS_MAX: usize = 1_000;

/// The values of all arguments of this name; `None` for one without `=`.
pub(crate) fn values<'q>(query: &'q [u8], name: &[u8]) -> impl Iterator<Item = Option<Cow<'q, [u8]>>> {
    arguments(query)
        .take(ARGUMENTS_MAX)
        .filter(move |(_, key, _)| is_name(key, name))
        .map(|(_, _, value)| value.map(text))
}

/// The query without the arguments of this name; `None` when nothing is left. What stays is not touched.
pub(crate) fn without(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(query.len());
    for (whole, key, _) in arguments(query).filter(|(_, key, _)| !is_name(key, name)) {
        debug_assert!(whole.starts_with(key));
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(whole);
    }
    (!out.is_empty()).then_some(out)
}

/// Each argument whole, its name, its value; as they stand.
fn arguments(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
    query.split(|b| *b == b'&').filter(|part| !part.is_empty()).map(|part| {
        let mut halves = part.splitn(2, |b| *b == b'=');
        (part, halves.next().unwrap_or_default(), halves.next())
    })
}

fn is_name(key: &[u8], name: &[u8]) -> bool {
    key == name || (is_encoded(key) && decode(key) == name)
}

fn text(value: &[u8]) -> Cow<'_, [u8]> {
    if is_encoded(value) { Cow::Owned(decode(value)) } else { Cow::Borrowed(value) }
}

fn is_encoded(text: &[u8]) -> bool {
    memchr::memchr2(b'%', b'+', text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expect: &[Option<&str>], left: Option<&str>) {
        let found: Vec<_> =
            values(query.as_bytes(), b"k y").map(|v| v.map(|v| String::from_utf8_lossy(&v).into_owned())).collect();
        assert_eq!(found, expect.iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>(), "{query}");
        assert_eq!(without(query.as_bytes(), b"k y"), left.map(|l| l.as_bytes().to_vec()), "{query}");
    }

    #[test]
    fn arguments_are_found_and_removed_in_any_spelling() {
        check("", &[], None);
        check("k+y=a%20b", &[Some("a b")], None);
        check("k%20y=", &[Some("")], None);
        check("k+y", &[None], None);
        check("a=1&k+y=2&&b=%zz+&k%20y=3=3", &[Some("2"), Some("3=3")], Some("a=1&b=%zz+"));
        check("ky=1", &[], Some("ky=1"));
        check("%=%&=&", &[], Some("%=%&="));
    }
}
