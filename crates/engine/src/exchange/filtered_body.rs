//! [`FilteredBody`]: passes a streamed request body through the filters to the upstream.

use bytes::Bytes;

/// A streamed request body whose chunks pass through filters. It spans all attempts, because filters must see each
/// chunk exactly once.
#[derive(Debug, Default)]
pub(crate) struct FilteredBody {
    /// Output of the filters that has not been sent to any upstream.
    pub(crate) pending: Bytes,
    /// Number of bytes received from the client.
    pub(crate) received: u64,
    /// The filters have processed the last chunk.
    pub(crate) is_complete: bool,
}

impl FilteredBody {
    /// Whether filters have processed any chunk of the body.
    pub(crate) fn has_begun(&self) -> bool {
        self.received > 0 || self.is_complete
    }
}
