//! The request headers that a response depends on, by its `Vary` (RFC 9110 section 12.5.5).

use cardinal_http::{HeaderList, Name, ResponseHead, split_list};

/// Names in one `Vary` at most; a response with more is not cached.
const NAMES_MAX: usize = 16;

/// Header names in lower case, sorted, each once.
pub(super) type Names = Vec<Box<[u8]>>;

/// The headers that the response depends on and that are not part of every key. `None` when it cannot be cached: it
/// depends on something that is not in the request as the cache sees it.
pub(super) fn names(response: &ResponseHead) -> Option<Names> {
    let mut names = Names::new();
    let encoded = response.headers.get(b"content-encoding").is_some_and(|coding| !coding.is_empty());
    // An encoded body is only for clients that accept the encoding, even without `Vary`.
    let implied = encoded.then_some(&b"accept-encoding"[..]);
    for name in response.headers.get_all(b"vary").flat_map(split_list).chain(implied) {
        match Name::of(name) {
            _ if name == b"*" => return None,
            // Always part of the key.
            Name::Host
            | Name::Authorization
            | Name::XForwardedHost
            | Name::XForwardedPath
            | Name::XForwardedPort
            | Name::XForwardedPrefix
            | Name::XForwardedProto => {}
            // Written by the proxy when the request is sent.
            Name::Connection
            | Name::ContentLength
            | Name::Expect
            | Name::KeepAlive
            | Name::Proxy
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Via
            | Name::XForwardedFor
            | Name::XRealIp => return None,
            _ => names.push(name.to_ascii_lowercase().into()),
        }
    }
    names.sort_unstable();
    names.dedup();
    (names.len() <= NAMES_MAX).then_some(names)
}

/// All names of both lists.
pub(super) fn union(known: &[Box<[u8]>], mut new: Names) -> Names {
    new.extend(known.iter().cloned());
    new.sort_unstable();
    new.dedup();
    new
}

/// Whether the upstream got these headers as the cache saw them: filters that ran later may have changed them.
pub(super) fn unchanged(names: &[Box<[u8]>], seen: &HeaderList, sent: &HeaderList) -> bool {
    names.iter().all(|name| seen.spellings(name).eq(sent.spellings(name)))
}
