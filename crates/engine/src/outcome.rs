//! What comes of starting an engine and of applying a configuration: [`Applied`], [`EngineError`], [`ApplyError`].

use std::net::SocketAddr;

use cardinal_ir::{Diagnostic, Diagnostics};
use cardinal_sync::{Ack, Refusal};

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A socket cannot be had.
    #[error("cannot listen on {address} ({name}): {error}")]
    Listen {
        /// The listener.
        name: Box<str>,
        /// Its address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Threads or runtimes cannot be had.
    #[error("cannot start {what}: {error}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// Name resolution or TLS cannot be set up.
    #[error("{0}")]
    Setup(String),
    /// The configuration cannot be served.
    #[error("the configuration cannot be served: {0}")]
    Refused(Diagnostics),
}

/// A generation that is served.
#[derive(Debug)]
pub struct Applied {
    /// Its number, from 1.
    pub generation: u64,
    /// What was left out of it.
    pub diagnostics: Vec<Diagnostic>,
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
