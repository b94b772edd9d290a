//! Workload identity for TLS on both sides: [`IdentityStore`], a live handle that is consulted at each handshake.
//!
//! The store contains certificates with their keys, by identity, and trust bundles, by trust domain. TLS configurations
//! refer to the store and are built from an [`IdentityPolicy`] only (own identity, allowed peers, protocols), so
//! rotating a leaf or a root changes the store, but no configuration, plan or pool. Peers are verified as X.509-SVIDs
//! by the bundle of their own trust domain, regardless of server name and `Host`.
//!
//! Sessions are not resumed: a resumed session would skip the verification of the peer, so that it could outlive the
//! removal of a root, and a ticket could be used with another policy. The cost is documented in
//! docs/adr/0012-identity.md.

mod policy;
mod resolver;
mod session;
mod store;
mod verifier;

pub use policy::{IdentityPolicy, PeerRule};
pub use session::{AcceptError, Authenticated, IdentityClient, IdentityServer};
pub use store::{IdentityError, IdentityStatus, IdentityStore, IdentityUpdate};
pub use verifier::PeerError;

#[cfg(test)]
mod tests;
