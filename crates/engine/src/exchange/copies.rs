//! [`Copies`]: mirrored copies of a request that wait for its body.

use std::fmt;

/// Copies of a request for the mirrors of its route, until the body of the request is complete.
pub(crate) trait Copies: fmt::Debug {
    /// Appends a chunk of the body. Returns `None` if no copy needs more data.
    fn with(self: Box<Self>, data: &[u8]) -> Option<Box<dyn Copies>>;

    /// Completes the body: the copies are sent.
    fn complete(self: Box<Self>);
}
