//! Results of starting an engine and of applying a configuration: [`Applied`], [`EngineError`], [`ApplyError`].

use std::net::SocketAddr;

use cardinal_ir::{Diagnostic, Diagnostics};
use cardinal_sync::{Ack, Refusal};

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A socket cannot be opened.
    #[error("cannot listen on {address} ({name}): {error}")]
    Listen {
        /// The name of the listener.
        name: Box<str>,
        /// The address of the listener.
        address: SocketAddr,
        /// The reason.
        error: std::io::Error,
    },
    /// A thread or a runtime cannot be created.
    #[error("cannot start {what}: {error}")]
    Start {
        /// The thread or runtime.
        what: &'static str,
        /// The reason.
        error: std::io::Error,
    },
    /// Name resolution or TLS cannot be set up.
    #[error("{0}")]
    Setup(String),
    /// The configuration cannot be served.
    #[error("the configuration cannot be served: {0}")]
    Refused(Diagnostics),
}

/// An applied generation.
#[derive(Debug)]
pub struct Applied {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// The entities that were skipped, with the reasons.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a configuration was rejected. The previous one stays active.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration breaks an invariant, or a plugin panicked while an instance was built.
    #[error("{0}")]
    Refused(Diagnostics),
    /// Planning panicked, which is a bug in this program; the message of the panic.
    #[error("planning the configuration panicked: {0}")]
    Panicked(String),
    /// The engine is stopping.
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
