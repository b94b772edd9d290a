//! HTTP/2 ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113)) as far as clients and the upstream need it.
//!
//! [`frame`] takes frames from bytes, [`wire`] is what both ends do alike, [`hpack`] is about fields.

pub(super) mod frame;
pub(super) mod hpack;
pub(super) mod wire;
