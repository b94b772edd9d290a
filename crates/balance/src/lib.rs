//! Load balancing: which address a request goes to, which addresses are healthy or ejected, and the limits of a cluster.
//!
//! A [`Group`] is built from the IR's `Cluster` and its `Endpoint` members, gets the addresses that their names resolve
//! to, and is shared by all workers of a node. Each worker holds a [`Picker`] of it; a pick takes no lock and allocates
//! nothing. Traffic and probes report back, atomics count, and only a change of verdict takes the group's lock.
//!
//! *Must not know*: sockets, DNS, HTTP messages. Time comes in as a [`Tick`](cardinal_base::Tick), randomness as an
//! [`Rng`](cardinal_base::Rng), names are resolved and probes are run by the caller, so everything here runs in
//! simulation.
//!
//! Start at [`Group`], then [`Picker::pick`]. The algorithms are in `picker`, the placement on the hash ring in
//! [`ring`], the health counters in [`health`], ejections in `outlier` and `ejecting`, zones and priorities in `place` and
//! `spread`, limits in `limits` and `retries`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod address;
mod ejecting;
mod event;
mod group;
pub mod health;
mod limits;
mod outlier;
mod peer;
mod picker;
mod place;
mod probes;
mod retries;
pub mod ring;
mod spread;
mod state;
mod status;
mod view;
mod wheel;
mod xxh32;

pub use address::{NameFailure, ResolvedAddr};
pub use event::{Event, Observed};
pub use group::{Group, HealthChecksOff, Member, Outcome};
pub use limits::{ClusterLimits, LimitKind, Seats};
pub use outlier::{Detector, Ejection};
pub use peer::AddressKey;
pub use picker::{NoHealthyEndpoint, PickInput, Picked, Picker};
pub use place::NodePlace;
pub use probes::{Probe, ProbeOutcome};
pub use retries::Retries;
pub use status::{AddressStatus, EjectionCounts, GroupStatus, LimitStatus, MemberStatus, State, Weights};
pub use view::Vacancy;
pub use xxh32::xxh32;

#[cfg(test)]
mod tests;
