//! [`Configuration`]: what an engine serves, and [`ApplyError`]: why it does not.

use std::sync::Arc;

use cardinal_ir::{Diagnostic, Diagnostics, Ir, NodeSettings, Secrets};
use cardinal_sdk::PluginDef;
use cardinal_sync::{Ack, Refusal, Update, UpdateParts};

use crate::engine::{Applied, EngineError};
use crate::explain::offline_services;
use crate::plan::{PlanCx, Registry, validate};

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

    /// What an engine would leave out of the configuration, and why. Nothing is served, and no server is connected to. Must
    /// be called within a runtime.
    ///
    /// # Errors
    /// When nothing can be served.
    pub fn validate(&self, plugins: &[&'static PluginDef]) -> Result<Vec<Diagnostic>, EngineError> {
        let services = offline_services(&self.node);
        let registry =
            Registry::new(Arc::clone(&services.clock)).map_err(|error| EngineError::Setup(error.to_string()))?;
        let cx = PlanCx { plugins, services, registry: &registry, previous: None };
        validate(self, &cx).map_err(EngineError::Refused)
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

/// Why a configuration is not served. The one before it stays.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// It breaks an invariant, or a plugin panicked while an instance was built.
    #[error("{0}")]
    Refused(Diagnostics),
    /// Planning panicked, which is a defect of this program. The message of the panic.
    #[error("planning the configuration panicked: {0}")]
    Panicked(String),
    /// The engine is ending.
    #[error("the engine is ending")]
    Ending,
}

impl From<Diagnostics> for ApplyError {
    fn from(found: Diagnostics) -> Self {
        Self::Refused(found)
    }
}

impl From<Applied> for Ack {
    fn from(Applied { generation, diagnostics }: Applied) -> Self {
        Self::Applied { generation, diagnostics }
    }
}

impl From<ApplyError> for Ack {
    fn from(error: ApplyError) -> Self {
        Self::Refused(match error {
            ApplyError::Refused(found) => Refusal::Invalid(found),
            error => Refusal::Failed(error.to_string()),
        })
    }
}
