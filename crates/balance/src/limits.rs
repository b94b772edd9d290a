//! Limits of a cluster on this node, and a worker's access to them.

use std::sync::Arc;

use cardinal_base::{Seat, SharedLimit};
use cardinal_ir::policy::CircuitLimits;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Connections, idle ones included.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in flight.
    Requests,
    /// Retries in flight.
    Retries,
}

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    /// The name in metrics and in the policy.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

/// The limits of a cluster. They outlive changes of their numbers.
#[derive(Debug)]
pub struct ClusterLimits {
    connections: Arc<SharedLimit>,
    pending: Arc<SharedLimit>,
    requests: Arc<SharedLimit>,
    retries: Arc<SharedLimit>,
}

impl ClusterLimits {
    pub(crate) fn new(spec: &CircuitLimits) -> Self {
        Self {
            connections: Arc::new(SharedLimit::plain(spec.max_connections)),
            pending: Arc::new(SharedLimit::plain(spec.max_pending)),
            requests: Arc::new(SharedLimit::sharded(spec.max_requests)),
            retries: Arc::new(SharedLimit::plain(spec.max_retries)),
        }
    }

    /// Takes other numbers over.
    pub(crate) fn update(&self, spec: &CircuitLimits) {
        self.connections.set_max(spec.max_connections);
        self.pending.set_max(spec.max_pending);
        self.requests.set_max(spec.max_requests);
        self.retries.set_max(spec.max_retries);
    }

    /// The limit on requests in flight.
    pub(crate) fn requests(&self) -> &SharedLimit {
        &self.requests
    }

    /// One of the limits.
    pub fn get(&self, kind: LimitKind) -> &Arc<SharedLimit> {
        match kind {
            LimitKind::Connections => &self.connections,
            LimitKind::Pending => &self.pending,
            LimitKind::Requests => &self.requests,
            LimitKind::Retries => &self.retries,
        }
    }
}

/// A worker's access to the limits of a cluster. Places of requests in flight are those of picked addresses.
#[derive(Debug)]
pub struct Seats {
    limits: Arc<ClusterLimits>,
    /// Connections to the cluster.
    pub connections: Arc<Seat>,
    /// Requests that wait for one.
    pub pending: Arc<Seat>,
    /// Retries in flight.
    pub retries: Arc<Seat>,
}

impl Seats {
    pub(crate) fn new(limits: Arc<ClusterLimits>, number: usize) -> Self {
        let seat = |kind| Seat::new(Arc::clone(limits.get(kind)), number);
        Self {
            connections: seat(LimitKind::Connections),
            pending: seat(LimitKind::Pending),
            retries: seat(LimitKind::Retries),
            limits,
        }
    }

    /// Whether these are of those limits.
    pub(crate) fn are_of(&self, limits: &Arc<ClusterLimits>) -> bool {
        Arc::ptr_eq(&self.limits, limits)
    }
}
