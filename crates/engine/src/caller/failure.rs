//! Failures of HTTP and gRPC calls, and the end of their connections.

use cardinal_sdk::CallError;
use tokio::task::JoinHandle;

/// Aborts the task of a call when the caller stops waiting.
pub(super) struct EndOnDrop(pub(super) JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The error of a failed call. `is_local`: the cause is the node itself, not the server.
pub(super) fn failed(is_local: bool, reason: String) -> CallError {
    if is_local { CallError::Local(reason) } else { CallError::Transport(reason) }
}

pub(super) fn transport(reason: &str) -> CallError {
    CallError::Transport(reason.to_owned())
}
