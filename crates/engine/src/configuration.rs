//! [`Configuration`]: what an engine serves.

use std::sync::Arc;

use cardinal_ir::{Ir, NodeSettings, Secrets};
use cardinal_sync::{Update, UpdateParts};

/// A generation with its secrets, and the settings of the node that serves it.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Records that all nodes of a role receive.
    pub ir: Arc<Ir>,
    /// The secrets that the records refer to.
    pub secrets: Secrets,
    /// What the operator of this node configured.
    pub node: Arc<NodeSettings>,
}

impl Configuration {
    /// Of a generation that refers to no secrets, and settings.
    pub fn new(ir: Ir, node: NodeSettings) -> Self {
        Self { ir: Arc::new(ir), secrets: Secrets::default(), node: Arc::new(node) }
    }

    /// With the secrets that the records refer to.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// The records, to change them.
    pub fn ir_mut(&mut self) -> &mut Ir {
        Arc::make_mut(&mut self.ir)
    }

    /// The settings, to change them.
    pub fn node_mut(&mut self) -> &mut NodeSettings {
        Arc::make_mut(&mut self.node)
    }
}

/// With the settings that hold by default.
impl From<Ir> for Configuration {
    fn from(ir: Ir) -> Self {
        Self::new(ir, NodeSettings::default())
    }
}

/// The generation of an update; with the settings that hold by default, if the update has none.
impl From<Update> for Configuration {
    fn from(update: Update) -> Self {
        let UpdateParts { generation: ir, secrets, node, .. } = update.into_parts();
        Self { ir, secrets: secrets.unwrap_or_default(), node: node.unwrap_or_default() }
    }
}
