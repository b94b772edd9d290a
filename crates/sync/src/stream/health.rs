//! [`TargetHealth`]: what operators say about targets, passed on to data planes beside generations.

use std::net::SocketAddr;

use super::wire::WireTargetHealth;

/// The health of a target, as an operator set it. It is no part of a generation: a data plane takes it if it serves the target at
/// that moment, and health checks may change it afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// Id of the upstream.
    pub upstream: String,
    /// The target: `host:port`.
    pub target: String,
    /// One of its addresses; all if there is none.
    pub address: Option<SocketAddr>,
    /// Whether it is to count as healthy.
    pub is_healthy: bool,
}

impl TargetHealth {
    pub(super) fn to_wire(&self) -> WireTargetHealth {
        WireTargetHealth {
            upstream: self.upstream.clone(),
            target: self.target.clone(),
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            healthy: self.is_healthy,
        }
    }

    /// `None` if the address is none.
    pub(super) fn of_wire(wire: WireTargetHealth) -> Option<Self> {
        let WireTargetHealth { upstream, target, address, healthy } = wire;
        let address = if address.is_empty() { None } else { Some(address.parse().ok()?) };
        Some(Self { upstream, target, address, is_healthy: healthy })
    }
}
