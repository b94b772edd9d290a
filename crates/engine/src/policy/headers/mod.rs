//! Changes of the fields of heads.

use cardinal_http::{HeaderList, Name};
use cardinal_ir::policy::HeaderEdits;

#[cfg(test)]
mod tests;

/// Makes the changes.
pub(crate) fn edit(edits: &HeaderEdits, headers: &mut HeaderList) {
    for name in edits.remove.iter().filter(|name| is_editable(name)) {
        headers.remove_spellings(&[name.as_bytes()]);
    }
    for (name, value) in edits.set.iter().filter(|(name, _)| is_editable(name)) {
        headers.set_own(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in edits.add.iter().filter(|(name, _)| is_editable(name)) {
        // A malformed field is left out.
        headers.append(name.as_bytes(), value.as_bytes());
    }
}

/// Whether a field is neither about the connection or the framing of the body, nor names the host.
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
