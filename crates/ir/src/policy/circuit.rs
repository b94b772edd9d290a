//! Limits on what a cluster may be asked to do at once.

use serde::{Deserialize, Serialize};

/// Limits on the use of a cluster by one node. `None` is no limit.
///
/// All workers of a node share each limit. It is exact: never more than the limit is granted, and as long as a worker
/// would find a free place by looking at every other worker's, it is granted. Only while several workers take and return
/// the last places at the same moment may a request be rejected although a place is being returned. What was granted
/// before a limit existed is not counted.
///
/// A request over a limit is answered with 503 at once and is never counted against the health of an endpoint.
/// Subsets of a cluster share its limits.
///
/// There is no limit on the number of connection pools (Envoy's `max_connection_pools`): each worker has one pool, and the
/// connections in it are what [`CircuitLimits::max_connections`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitLimits {
    /// Connections that are open or being opened, idle ones in pools included. TCP sessions count as connections, UDP
    /// sessions do not. At the limit an idle connection is reused, or closed to make room for one to another endpoint.
    pub max_connections: Option<u32>,
    /// Requests and TCP sessions that wait for a connection because [`CircuitLimits::max_connections`] is reached; 0
    /// lets none wait. They wait no longer than the connect timeout. (Envoy counts those as well for which a connection
    /// is being opened; here these count as connections only.)
    pub max_pending: Option<u32>,
    /// Requests in flight, from the choice of an endpoint to the end of the response or of the tunnel.
    pub max_requests: Option<u32>,
    /// Requests in flight that are being retried. A retry over the limit is not made: the failure of the attempt before
    /// it is the result.
    pub max_retries: Option<u32>,
}
