//! [`FilteredBody`]: a streamed request body between the filters and the upstream.

use bytes::Bytes;

/// A streamed request body whose parts go through filters. It lasts over all attempts, as filters see each part once.
#[derive(Debug, Default)]
pub(crate) struct FilteredBody {
    /// What filters have made, and no upstream has been sent.
    pub(crate) pending: Bytes,
    /// Bytes that came from the client.
    pub(crate) received: u64,
    /// The last part has been through.
    pub(crate) is_complete: bool,
}

impl FilteredBody {
    /// Whether filters have seen something of the body.
    pub(crate) fn has_begun(&self) -> bool {
        self.received > 0 || self.is_complete
    }
}
