//! Names of cached responses. Kong: `kong/plugins/proxy-cache/cache_key.lua`.

use aws_lc_rs::digest;
use cardinal_http::query;
use cardinal_sdk::HeadCx;

/// SHA-256 in hex.
pub(super) type Key = [u8; 64];

/// Query arguments looked at, as in Kong.
const ARGUMENTS_MAX: usize = 100;

/// What tells requests apart.
pub(super) struct Vary {
    pub(super) ignore_case: bool,
    /// Empty: all.
    pub(super) arguments: Vec<Box<str>>,
    /// Empty: none.
    pub(super) headers: Vec<Box<str>>,
}

impl Vary {
    pub(super) fn key(&self, cx: &HeadCx<'_>) -> Key {
        hex(&digest::digest(&digest::SHA256, &self.text(cx)))
    }

    /// `prefix|METHOD|uri|params|headers`.
    fn text(&self, cx: &HeadCx<'_>) -> Vec<u8> {
        let exchange = &*cx.exchange;
        let mut text = match (&exchange.identity.principal, &exchange.route) {
            (Some(principal), Some(route)) => format!("{}:{}", principal.id, route.id()).into_bytes(),
            (None, Some(route)) => route.id().to_string().into_bytes(),
            (_, None) => b"default".to_vec(),
        };
        text.push(b'|');
        text.extend_from_slice(cx.request.method.as_str().as_bytes());
        text.push(b'|');
        let uri = text.len();
        push_request_line(cx, &mut text);
        if let (true, Some(uri)) = (self.ignore_case, text.get_mut(uri..)) {
            uri.make_ascii_lowercase();
        }
        text.push(b'|');
        self.push_arguments(cx.request.query().unwrap_or_default(), &mut text);
        text.push(b'|');
        let headers = self.headers.iter().map(|name| {
            let values = cx.request.headers.get_all(name.as_bytes()).map(|value| Some(value.to_vec()));
            (name.as_bytes().to_vec(), values.collect())
        });
        push_fields(headers, &mut text);
        text
    }

    fn push_arguments(&self, query: &[u8], text: &mut Vec<u8>) {
        let given: Vec<_> = query::arguments(query, ARGUMENTS_MAX).collect();
        let mut names: Vec<&[u8]> = self.arguments.iter().map(|name| name.as_bytes()).collect();
        if names.is_empty() {
            names = given.iter().map(|(name, _)| name.as_slice()).collect();
            names.sort_unstable();
            names.dedup();
        }
        let fields = names.into_iter().map(|name| {
            let values = given.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone());
            (name.to_vec(), values.collect())
        });
        push_fields(fields, text);
    }
}

/// The request line up to its query: `GET /a`, or `GET /a HTTP/1.1` when there is none.
fn push_request_line(cx: &HeadCx<'_>, text: &mut Vec<u8>) {
    let original = &cx.exchange.original;
    text.extend_from_slice(original.method.as_str().as_bytes());
    text.push(b' ');
    match original.target.split(|b| *b == b'?').next() {
        Some(path) if path.len() < original.target.len() => text.extend_from_slice(path),
        _ => {
            text.extend_from_slice(&original.target);
            text.extend_from_slice(match cx.request.version {
                cardinal_http::Version::H10 => b" HTTP/1.0",
                cardinal_http::Version::H11 => b" HTTP/1.1",
                cardinal_http::Version::H2 => b" HTTP/2.0",
            });
        }
    }
}

/// `a=1:b=1,2:c`: fields without values are left out, values that are `None` are bare names.
fn push_fields(fields: impl Iterator<Item = (Vec<u8>, Vec<Option<Vec<u8>>>)>, text: &mut Vec<u8>) {
    let mut first = true;
    for (name, mut values) in fields {
        if values.is_empty() {
            continue;
        }
        if !first {
            text.push(b':');
        }
        first = false;
        text.extend_from_slice(&name);
        if values == [None] {
            continue;
        }
        text.push(b'=');
        values.sort_unstable();
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value.as_deref().unwrap_or(b"true"));
        }
    }
}

fn hex(digest: &digest::Digest) -> Key {
    let mut key = [0; 64];
    for (pair, byte) in key.chunks_exact_mut(2).zip(digest.as_ref()) {
        for (place, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *place = b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
    key
}
