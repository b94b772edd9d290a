//! HTTP messages without sockets: heads, header lists, body framing, the HTTP/1.1 codec, and the one error type of
//! the request path.
//!
//! *Must not know*: sockets, TLS, filters, routes.
//!
//! Start at [`RequestHead`] and [`HeaderList`]; the codec is in [`h1`], and the header blocks of HTTP/2 in [`hpack`];
//! errors are [`Failure`].

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

pub mod accept;
mod authority;
mod failure;
pub mod h1;
mod head;
mod headers;
pub mod hpack;
pub mod query;
mod token;
mod trailers;

pub use authority::is_authority;
pub use failure::{Failure, FailureKind, Retry, Side};
pub use head::{Method, RequestHead, ResponseHead, Version, default_reason};
pub use headers::{HeaderList, Name, is_called};
pub use token::{
    eq_field_name, eq_ignore_case, is_target, is_token, is_value, is_visible, list_contains, split_list, trim,
};
pub use trailers::{belongs_in_head, tells_identity};
