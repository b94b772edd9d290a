//! [`Changes`]: what the work of planning follows from.

use std::sync::Arc;

use cardinal_ir::{IrDelta, TrustBundle};

/// What differs between two generations and the settings of the node. The work of planning follows from it.
pub(crate) struct Changes {
    /// The settings of the node differ.
    pub(super) node: bool,
    pub(super) delta: IrDelta,
}

impl Changes {
    /// Whether key material differs: certificates, authorities, settings of the node.
    pub(super) fn touches_tls(&self) -> bool {
        // Roots of a trust domain are looked up at each handshake.
        let is_named = |bundle: &Arc<TrustBundle>| bundle.trust_domain.is_none();
        self.node
            || !self.delta.certificates.is_empty()
            || self.delta.trust_bundles.iter().any(|change| change.old.iter().chain(&change.new).any(is_named))
    }
}
