//! Keys of cached responses.
//!
//! A key is a digest of everything that the upstream's answer may depend on, and that is known of the request. Every
//! part goes in with its length, so that two requests have the same key only if all parts are equal. The arguments of a
//! query are sorted by name; the order of those that have the same name is kept, because upstreams read the first, the
//! last or all of them.

use aws_lc_rs::digest;
use cardinal_http::{HeaderList, Name, query};
use cardinal_sdk::HeadCx;

/// SHA-256 in hex.
pub(super) type Key = [u8; 64];

/// The configured part of what distinguishes requests.
pub(super) struct Vary {
    pub(super) ignore_case: bool,
    /// Empty: all.
    pub(super) arguments: Vec<Box<str>>,
    /// Empty: none.
    pub(super) headers: Vec<Box<str>>,
}

/// `X-Forwarded-*` fields that reach the upstream as a trusted client sent them.
const FORWARDED: [Name; 5] =
    [Name::XForwardedHost, Name::XForwardedPort, Name::XForwardedProto, Name::XForwardedPath, Name::XForwardedPrefix];

impl Vary {
    /// The key of a request, as far as it can be computed before the response is known.
    pub(super) fn key(&self, cx: &HeadCx<'_>) -> Key {
        let (exchange, request) = (&*cx.exchange, &*cx.request);
        let mut parts = Parts::new(b"request");
        // Entries outlive a change of these settings.
        parts.part(&[u8::from(self.ignore_case)]);
        parts.list(self.arguments.iter().map(|name| name.as_bytes()));
        parts.list(self.headers.iter().map(|name| name.as_bytes()));

        parts.optional(exchange.route.as_ref().map(|route| route.id()).as_ref().map(|id| &id.as_bytes()[..]));
        parts.optional(exchange.backend.as_ref().map(|backend| backend.id()).as_ref().map(|id| &id.as_bytes()[..]));
        let identity = &exchange.identity;
        parts.optional(identity.principal.as_ref().map(|principal| &principal.id.as_bytes()[..]));
        let credential = identity.credential.as_ref().map(cardinal_sdk::CredentialRef::id);
        parts.optional(credential.as_deref().map(str::as_bytes));
        let groups = identity.authenticated_groups.as_deref().unwrap_or_default();
        parts.list(groups.iter().map(|group| group.as_bytes()));

        // What the upstream learns about the original request: Host with `preserve_host`, and X-Forwarded-*.
        parts.part(&[u8::from(exchange.client.https)]);
        parts.optional(request.authority());
        parts.part(&exchange.original.port.to_be_bytes());
        parts.optional(cx.upstream.host().map(str::as_bytes));
        if exchange.client.trusted {
            for name in FORWARDED {
                parts.values(request.headers.known_all(name));
            }
        }

        parts.part(exchange.original.method.as_str().as_bytes());
        parts.part(request.method.as_str().as_bytes());
        self.path(exchange.original.target.split(|b| *b == b'?').next().unwrap_or_default(), &mut parts);
        self.path(&cx.upstream.path, &mut parts);
        parts.part(&[u8::from(request.query().is_some())]);
        self.query(request.query().unwrap_or_default(), &mut parts);

        parts.values(request.headers.known_all(Name::Authorization));
        for name in &self.headers {
            parts.spellings(&request.headers, name.as_bytes());
        }
        parts.finish()
    }

    fn path(&self, path: &[u8], parts: &mut Parts) {
        if self.ignore_case {
            parts.part(&path.to_ascii_lowercase());
        } else {
            parts.part(path);
        }
    }

    /// All arguments that matter, as they are written in the query.
    fn query(&self, query: &[u8], parts: &mut Parts) {
        let mut arguments: Vec<(Vec<u8>, &[u8])> = query
            .split(|b| *b == b'&')
            .map(|text| (query::decode(text.split(|b| *b == b'=').next().unwrap_or_default()), text))
            .filter(|(name, _)| {
                self.arguments.is_empty() || self.arguments.iter().any(|wanted| wanted.as_bytes() == name.as_slice())
            })
            .collect();
        // The sort is stable: arguments of one name stay in their order.
        arguments.sort_by(|(a, _), (b, _)| a.cmp(b));
        parts.list(arguments.iter().map(|(_, text)| *text));
    }
}

/// The key of a response whose `Vary` names these request headers (lower case, sorted).
pub(super) fn variant(base: &Key, names: &[Box<[u8]>], headers: &HeaderList) -> Key {
    let mut parts = Parts::new(b"variant");
    parts.part(base);
    for name in names {
        parts.part(name);
        parts.spellings(headers, name);
    }
    parts.finish()
}

/// Parts of a key, each with its length.
struct Parts(digest::Context);

impl Parts {
    fn new(kind: &[u8]) -> Self {
        let mut parts = Self(digest::Context::new(&digest::SHA256));
        parts.part(kind);
        parts
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.part(&[u8::from(bytes.is_some())]);
        self.part(bytes.unwrap_or_default());
    }

    fn list<'a>(&mut self, items: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.part(&(items.len() as u64).to_be_bytes());
        items.for_each(|item| self.part(item));
    }

    /// A list whose length is not known before.
    fn values<'a>(&mut self, items: impl Iterator<Item = &'a [u8]>) {
        for item in items {
            self.optional(Some(item));
        }
        self.optional(None);
    }

    /// All fields of a name. What an upstream makes of `User_Agent` it may take for `User-Agent`; others do not, so the
    /// spelling counts too.
    fn spellings(&mut self, headers: &HeaderList, name: &[u8]) {
        for (name, value) in headers.spellings(name) {
            self.optional(Some(&name.to_ascii_lowercase()));
            self.part(value);
        }
        self.optional(None);
    }

    fn finish(self) -> Key {
        let digest = self.0.finish();
        let mut key = [0; 64];
        for (pair, byte) in key.chunks_exact_mut(2).zip(digest.as_ref()) {
            for (place, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *place = b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0');
            }
        }
        key
    }
}
