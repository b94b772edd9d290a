//! Headers about the consumer for the upstream: `X-Consumer-ID`, `X-Consumer-Custom-ID`, `X-Consumer-Username`,
//! `X-Credential-Identifier`, `X-Anonymous-Consumer`, and groups. What the client sent under these names never gets
//! through, in any spelling: upstreams that treat `_` as `-` would use `X_Consumer_ID` as `X-Consumer-ID`.

use cardinal_http::HeaderList;
use cardinal_sdk::PrincipalEntry;

const ID: &[u8] = b"X-Consumer-ID";
const CUSTOM_ID: &[u8] = b"X-Consumer-Custom-ID";
const USERNAME: &[u8] = b"X-Consumer-Username";
const IDENTIFIER: &[u8] = b"X-Credential-Identifier";
const ANONYMOUS: &[u8] = b"X-Anonymous-Consumer";
/// Groups of the consumer, joined with `, `.
pub(crate) const GROUPS: &str = "X-Consumer-Groups";
/// Groups that an authentication plugin vouches for.
pub(crate) const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

/// Writes what is known and removes the rest. Without `identifier` the principal is an anonymous one.
pub(crate) fn write(headers: &mut HeaderList, principal: Option<&PrincipalEntry>, identifier: Option<&str>) {
    remove(headers);
    let mut id = [0; 36];
    let id = principal.map(|p| &*p.id.hyphenated().encode_lower(&mut id));
    put(headers, ID, id);
    put(headers, CUSTOM_ID, principal.and_then(|p| p.record.custom_id.as_deref()));
    put(headers, USERNAME, principal.and_then(|p| p.record.name.as_deref()));
    put(headers, IDENTIFIER, identifier);
    put(headers, ANONYMOUS, identifier.is_none().then_some("true"));
}

/// Removes what the client sent under these names.
pub(crate) fn remove(headers: &mut HeaderList) {
    let (own, vouched) = (GROUPS.as_bytes(), AUTHENTICATED_GROUPS.as_bytes());
    headers.remove_spellings(&[ID, CUSTOM_ID, USERNAME, IDENTIFIER, ANONYMOUS, own, vouched]);
}

/// A value that cannot stand in a header is left out.
fn put(headers: &mut HeaderList, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        headers.append(name, value.as_bytes());
    }
}
