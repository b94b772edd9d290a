//! HTTP/2 ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113)), limited to what the clients and the upstream need.
//!
//! [`frame`] parses frames, [`wire`] is the common part of both sides, [`hpack`] encodes and decodes fields.

pub(super) mod frame;
pub(super) mod hpack;
pub(super) mod wire;
