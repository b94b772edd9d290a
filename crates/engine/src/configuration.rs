//! [`Configuration`]: what an engine serves.

use std::sync::Arc;

use cardinal_ir::{Ir, NodeSettings};
use cardinal_sync::Update;

/// A generation, and the settings of the node that serves it.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Records that all nodes of a role receive.
    pub ir: Arc<Ir>,
    /// What the operator of this node configured.
    pub node: Arc<NodeSettings>,
}

impl Configuration {
    /// Of a generation and settings.
    pub fn new(ir: Ir, node: NodeSettings) -> Self {
        Self { ir: Arc::new(ir), node: Arc::new(node) }
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
        let (ir, _, node) = update.into_parts();
        Self { ir, node: node.unwrap_or_default() }
    }
}
