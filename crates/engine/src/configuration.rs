//! [`Configuration`]: the input of an engine.

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
    /// The settings made by the operator of this node.
    pub node: Arc<NodeSettings>,
}

impl Configuration {
    /// A configuration that refers to no secrets.
    pub fn new(ir: Ir, node: NodeSettings) -> Self {
        Self { ir: Arc::new(ir), secrets: Secrets::default(), node: Arc::new(node) }
    }

    /// Adds the secrets that the records refer to.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Mutable access to the records.
    pub fn ir_mut(&mut self) -> &mut Ir {
        Arc::make_mut(&mut self.ir)
    }

    /// Mutable access to the settings.
    pub fn node_mut(&mut self) -> &mut NodeSettings {
        Arc::make_mut(&mut self.node)
    }
}

/// With default settings.
impl From<Ir> for Configuration {
    fn from(ir: Ir) -> Self {
        Self::new(ir, NodeSettings::default())
    }
}

/// The generation of an update; with default settings if the update has none.
impl From<Update> for Configuration {
    fn from(update: Update) -> Self {
        let UpdateParts { generation: ir, secrets, node, .. } = update.into_parts();
        Self { ir, secrets: secrets.unwrap_or_default(), node: node.unwrap_or_default() }
    }
}
