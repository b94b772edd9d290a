//! [`StatusForm`]: the form in which a node shows its state. Front ends supply the one that their users know.

use serde_json::Value;

use crate::ConnectionCounts;

/// What a node shows at `/status`.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Connections of clients, and requests.
    pub connections: ConnectionCounts,
    /// The process.
    pub pid: u32,
    /// Resident memory of the process, where the system tells it.
    pub resident_bytes: Option<u64>,
    /// Program and process: version, id, start, number of the generation.
    pub node: Value,
    /// The result of the last change of the configuration.
    pub config: Value,
    /// Hash of the records that are served; `None` before the first generation.
    pub configuration_hash: Option<String>,
}

/// Whether traffic should be sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// The node is draining.
    Draining,
    /// No configuration was served yet.
    NoConfiguration,
    /// The configuration has no records.
    EmptyConfiguration,
}

/// The form in which a node shows its state.
pub trait StatusForm: Send + Sync {
    /// The answer to `GET /status` with this query.
    ///
    /// # Errors
    /// What is wrong with the query.
    fn status(&self, status: NodeStatus, query: &[u8]) -> Result<Value, String>;

    /// The message of `GET /status/ready`.
    fn readiness(&self, readiness: Readiness) -> &'static str;
}
