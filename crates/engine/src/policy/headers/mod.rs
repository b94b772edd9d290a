//! Header modification of requests and responses.

use cardinal_http::{HeaderList, Name};
use cardinal_ir::policy::HeaderEdits;

#[cfg(test)]
mod tests;

/// Applies the edits.
pub(crate) fn edit(edits: &HeaderEdits, headers: &mut HeaderList) {
    for name in edits.remove.iter().filter(|name| is_editable(name)) {
        headers.remove_spellings(&[name.as_bytes()]);
    }
    for (name, value) in edits.set.iter().filter(|(name, _)| is_editable(name)) {
        headers.set_own(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in edits.add.iter().filter(|(name, _)| is_editable(name)) {
        // Invalid fields are left out.
        headers.append(name.as_bytes(), value.as_bytes());
    }
}

/// Whether a field may be edited: not connection-specific, not about the framing of the body, and not the host.
fn is_editable(name: &str) -> bool {
    !matches!(
        Name::of(name.as_bytes()),
        Name::Connection
            | Name::ContentLength
            | Name::Expect
            | Name::Host
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
    )
}
