//! [`Copies`]: copies of a request that wait for its body.

use std::fmt;

/// Copies of a request for the mirrors of its route, until the body of the request is complete.
pub(crate) trait Copies: fmt::Debug {
    /// Takes a part of the body. `None` when no copy is left that would need more.
    fn with(self: Box<Self>, data: &[u8]) -> Option<Box<dyn Copies>>;

    /// The body is complete: the copies go on their way.
    fn complete(self: Box<Self>);
}
