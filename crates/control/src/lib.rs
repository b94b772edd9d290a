//! The control plane: REST APIs over a store, and the generations that are made of it.
//!
//! [`Dao`] reads and writes entities by their schemas, with Kong's rules and error texts. [`api`] serves it as Kong's Admin
//! API, to the users of [`rbac`], by the rules of [`permissions`]. [`StoreSource`] follows the store and is the source of
//! configuration of a node; [`Cluster`] is what control planes of one store share.
//!
//! *Must not know*: the engine (what it shows of running proxies comes through [`Proxies`]), plugins by name, SQL.
//!
//! Start at [`Dao`], then [`api::Admin`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod api;
mod cluster;
pub mod dao;
pub mod history;
mod housekeeping;
mod late_store;
mod observed_store;
pub mod permissions;
mod proxies;
mod quarantine;
pub mod rbac;
mod snapshot_store;
mod source;
mod trace;
mod unreadable;

pub use cluster::{CONTROL_PLANE_NAME, Cluster, ClusterError, SavedCluster};
pub use dao::{Dao, Fault, FutureOf, Tenant};
pub use housekeeping::{Housekeeper, Logged, Retention, Round};
pub use late_store::LateStore;
pub use observed_store::ObservedStore;
pub use proxies::{DataPlane, NoProxies, Proxies};
pub use quarantine::Quarantined;
pub use snapshot_store::{SnapshotStore, WriteError, Writer};
pub use source::{LastServed, SourceState, SourceStatus, StoreSource, lower_contents, lower_documents};
