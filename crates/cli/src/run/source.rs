//! [`Source`]: files or a store as the source of the configuration.

use std::sync::Arc;

use cardinal_ir::{Diagnostics, Listener};
use cardinal_sync::{Ack, ConfigSource, ConfigStatus, Next};

use super::control::ControlSource;
use super::file_source::FileSource;

/// Where the configuration of the node comes from.
pub(super) enum Source {
    /// Files.
    Files(Box<FileSource>),
    /// The store of the process.
    Store(Box<ControlSource>),
}

impl Source {
    /// What the source reports to.
    pub(super) fn status(&self) -> &Arc<ConfigStatus> {
        match self {
            Self::Files(source) => source.status(),
            Self::Store(source) => source.status(),
        }
    }

    /// Listeners of the settings, and of the first configuration.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        match self {
            Self::Files(source) => source.listeners(),
            Self::Store(source) => source.listeners(),
        }
    }

    /// Why the engine does not start with the first configuration.
    pub(super) fn refusal_of_first(&self, found: Diagnostics) -> anyhow::Error {
        match self {
            Self::Files(source) => source.refusal_of_first(found),
            Self::Store(_) => anyhow::anyhow!(found),
        }
    }
}

impl ConfigSource for Source {
    fn next(&mut self) -> Next<'_> {
        match self {
            Self::Files(source) => source.next(),
            Self::Store(source) => source.next(),
        }
    }

    fn ack(&mut self, ack: Ack) {
        match self {
            Self::Files(source) => source.ack(ack),
            Self::Store(source) => source.ack(ack),
        }
    }
}
