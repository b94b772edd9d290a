//! How calls of both kinds fail and end.

use cardinal_sdk::CallError;
use tokio::task::JoinHandle;

/// A call whose caller may leave.
pub(super) struct EndOnDrop(pub(super) JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a call failed: because of the node itself, or of the server.
pub(super) fn failed(is_local: bool, reason: String) -> CallError {
    if is_local { CallError::Local(reason) } else { CallError::Transport(reason) }
}

pub(super) fn transport(reason: &str) -> CallError {
    CallError::Transport(reason.to_owned())
}
