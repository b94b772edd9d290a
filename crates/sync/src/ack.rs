//! [`Ack`]: the result of an update.

use cardinal_ir::{Diagnostic, Diagnostics, Origin, Severity};

/// The result of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// The update is served, except for the rejected records.
    Applied {
        /// Number of the generation on this node, from 1.
        generation: u64,
        /// Errors of rejected records, and warnings, for the whole generation.
        diagnostics: Vec<Diagnostic>,
    },
    /// The update is rejected as a whole: the previous generation stays active.
    Refused(Refusal),
}

/// Why an update is rejected as a whole.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// These records break an invariant, or cannot be used at all.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The node failed, regardless of the records.
    #[error("{0}")]
    Failed(String),
}

/// The result of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecordResult<'a> {
    /// The record is served.
    Accepted,
    /// The record is not served, because of this error of the object from which it was lowered.
    Rejected(&'a Diagnostic),
    /// The update is rejected because of other records, or for another reason.
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

    /// The result of the records lowered from this object.
    pub fn result_of(&self, origin: &Origin) -> RecordResult<'_> {
        match self.errors().find(|error| error.origin == *origin) {
            Some(error) => RecordResult::Rejected(error),
            None if self.is_applied() => RecordResult::Accepted,
            None => RecordResult::Withheld,
        }
    }
}
