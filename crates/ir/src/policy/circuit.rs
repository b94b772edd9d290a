//! Circuit breaker limits of a cluster.

use serde::{Deserialize, Serialize};

/// Limits on the use of a cluster by one node. `None` is unlimited.
///
/// All workers of a node share each limit. It is exact: never more permits than the limit are granted, and a permit
/// that is free on any worker is granted. Only while several workers take and return the last permits at the same
/// moment may a request be rejected although a permit is being returned. Uses that began before a limit existed are not
/// counted.
///
/// A request above a limit receives 503 immediately, which never affects the health of an endpoint. Subsets of a
/// cluster share its limits.
///
/// The number of connection pools is not limited (Envoy's `max_connection_pools`): each worker has one pool, whose
/// connections are counted by [`CircuitLimits::max_connections`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitLimits {
    /// Connections that are open or being opened, including idle ones in pools. TCP sessions count as connections, UDP
    /// sessions do not. At the limit, an idle connection is reused, or closed to make room for one to another endpoint.
    pub max_connections: Option<u32>,
    /// Requests and TCP sessions that wait for a connection because [`CircuitLimits::max_connections`] is reached; 0
    /// allows none to wait. They wait at most for the connect timeout. (Envoy also counts requests for which a
    /// connection is being opened; here these only count as connections.)
    pub max_pending: Option<u32>,
    /// Requests in flight, from the selection of an endpoint to the end of the response or of the tunnel.
    pub max_requests: Option<u32>,
    /// Requests in flight that are being retried. A retry above the limit is not made: the result is the failure of the
    /// previous attempt.
    pub max_retries: Option<u32>,
}
