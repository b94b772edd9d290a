//! [`Changes`]: the differences between two generations that determine what is planned again.

use std::sync::Arc;

use cardinal_ir::{IrDelta, TrustBundle};

/// The differences between two generations, including the settings of the node. They determine the work of planning.
pub(crate) struct Changes {
    /// The settings of the node changed.
    pub(super) node: bool,
    pub(super) delta: IrDelta,
}

impl Changes {
    /// Whether key material changed: certificates, authorities, settings of the node.
    pub(super) fn touches_tls(&self) -> bool {
        // The roots of a trust domain are looked up at each handshake.
        let is_named = |bundle: &Arc<TrustBundle>| bundle.trust_domain.is_none();
        self.node
            || !self.delta.certificates.is_empty()
            || self.delta.trust_bundles.iter().any(|change| change.old.iter().chain(&change.new).any(is_named))
    }
}
