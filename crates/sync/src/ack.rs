//! [`Ack`]: the result of an update.

use cardinal_ir::{Diagnostic, Diagnostics, Origin, Severity};

/// The result of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// The update is served, without the records that were rejected.
    Applied {
        /// Number of the generation on this node, from 1.
        generation: u64,
        /// Errors about records that were rejected, and warnings, of the whole generation.
        diagnostics: Vec<Diagnostic>,
    },
    /// The update is refused as a whole: what was served before still is.
    Refused(Refusal),
}

/// Why an update is refused as a whole.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// These records break an invariant, or cannot be used at all.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The node failed, whatever the records are.
    #[error("{0}")]
    Failed(String),
}

/// The result of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecordResult<'a> {
    /// It is served.
    Accepted,
    /// It is not served, because of this error about the object that it was made of.
    Rejected(&'a Diagnostic),
    /// The update is refused because of other records, or for a reason that is about none.
    Withheld,
}

impl Ack {
    /// Whether the update is served.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied { .. })
    }

    /// Errors about records.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        let all = match self {
            Self::Applied { diagnostics, .. } => diagnostics.iter(),
            Self::Refused(Refusal::Invalid(found)) => found.iter(),
            Self::Refused(Refusal::Failed(_)) => [].iter(),
        };
        all.filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The result of the records that were made of this object.
    pub fn result_of(&self, origin: &Origin) -> RecordResult<'_> {
        match self.errors().find(|error| error.origin == *origin) {
            Some(error) => RecordResult::Rejected(error),
            None if self.is_applied() => RecordResult::Accepted,
            None => RecordResult::Withheld,
        }
    }
}
