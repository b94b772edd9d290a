//! [`StatusForm`]: the format of a node's status page, supplied by the front end.

use serde_json::Value;

use crate::ConnectionCounts;

/// The content of `/status`.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Client connections, and requests.
    pub connections: ConnectionCounts,
    /// The process id.
    pub pid: u32,
    /// Resident memory of the process, if the system provides it.
    pub resident_bytes: Option<u64>,
    /// Program and process: version, id, start time, number of the generation.
    pub node: Value,
    /// The result of the last change of the configuration.
    pub config: Value,
    /// Hash of the active records; `None` before the first generation.
    pub configuration_hash: Option<String>,
}

/// Whether a node is ready for traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The node is ready.
    Ready,
    /// The node is draining.
    Draining,
    /// No configuration has been applied yet.
    NoConfiguration,
    /// The configuration has no records.
    EmptyConfiguration,
}

/// The format of a node's status page.
pub trait StatusForm: Send + Sync {
    /// The response to `GET /status` with this query.
    ///
    /// # Errors
    /// The error in the query.
    fn status(&self, status: NodeStatus, query: &[u8]) -> Result<Value, String>;

    /// The message of `GET /status/ready`.
    fn readiness(&self, readiness: Readiness) -> &'static str;
}
