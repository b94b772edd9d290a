//! What the upstream is told about the consumer: `X-Consumer-ID`, `X-Consumer-Custom-ID`, `X-Consumer-Username`,
//! `X-Credential-Identifier`, `X-Anonymous-Consumer`. What the client sent under these names never gets through.

use cardinal_http::HeaderList;
use cardinal_sdk::PrincipalEntry;

/// Groups of the consumer, joined with `, `.
pub(crate) const GROUPS: &[u8] = b"X-Consumer-Groups";
/// Groups that an authentication plugin vouches for.
pub(crate) const AUTHENTICATED_GROUPS: &[u8] = b"X-Authenticated-Groups";

/// Writes what is known and removes the rest. Without `identifier` the principal is an anonymous one.
pub(crate) fn write(headers: &mut HeaderList, principal: Option<&PrincipalEntry>, identifier: Option<&str>) {
    let mut id = [0; 36];
    let id = principal.map(|p| &*p.id.hyphenated().encode_lower(&mut id));
    put(headers, b"X-Consumer-ID", id);
    put(headers, b"X-Consumer-Custom-ID", principal.and_then(|p| p.record.custom_id.as_deref()));
    put(headers, b"X-Consumer-Username", principal.and_then(|p| p.record.name.as_deref()));
    put(headers, b"X-Credential-Identifier", identifier);
    put(headers, b"X-Anonymous-Consumer", identifier.is_none().then_some("true"));
}

/// Removes what the client sent under these names.
pub(crate) fn remove(headers: &mut HeaderList) {
    for name in [
        &b"X-Consumer-ID"[..],
        b"X-Consumer-Custom-ID",
        b"X-Consumer-Username",
        b"X-Credential-Identifier",
        b"X-Anonymous-Consumer",
    ] {
        headers.remove(name);
    }
}

/// A value that cannot stand in a header is left out, and so is what the client sent.
fn put(headers: &mut HeaderList, name: &[u8], value: Option<&str>) {
    if !value.is_some_and(|value| headers.set(name, value.as_bytes())) {
        headers.remove(name);
    }
}
