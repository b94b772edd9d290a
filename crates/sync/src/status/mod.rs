//! [`ConfigStatus`]: the result of the last change of the configuration, for status pages and metrics.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_base::{Clock, SystemClock, UnixMillis};
use cardinal_ir::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::{Ack, Refusal};

/// Maximum number of problems that `/status` lists.
const PROBLEMS_MAX: usize = 20;

/// One error in a configuration. Unknown fields are empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigProblem {
    /// The file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Column, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub column: usize,
    /// The entity: `service "a"`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub entity: String,
    /// Dotted path of the field, or the setting.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The error message.
    pub message: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl From<&Diagnostic> for ConfigProblem {
    fn from(diagnostic: &Diagnostic) -> Self {
        let at = diagnostic.location.as_ref();
        Self {
            file: at.map(|at| at.file.to_string()).unwrap_or_default(),
            line: at.map_or(0, |at| at.line as usize),
            column: at.map_or(0, |at| at.column as usize),
            entity: diagnostic.origin.label(),
            field: diagnostic.path.clone(),
            message: diagnostic.message.clone(),
            help: diagnostic.hint.clone(),
        }
    }
}

/// A list of problems: the number of all, and the first ones in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemList {
    count: usize,
    first: Vec<ConfigProblem>,
}

impl ProblemList {
    /// The first problem of each entity.
    pub fn by_entity<'d>(diagnostics: impl IntoIterator<Item = &'d Diagnostic>) -> Self {
        let mut seen = HashSet::new();
        diagnostics
            .into_iter()
            .filter(|found| seen.insert((found.origin.kind(), found.origin.id)))
            .map(ConfigProblem::from)
            .collect()
    }

    /// Appends another list.
    pub fn extend(&mut self, more: Self) {
        self.count += more.count;
        self.first.extend(more.first);
        self.first.truncate(PROBLEMS_MAX);
    }

    /// Number of problems.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first problems.
    pub fn first(&self) -> &[ConfigProblem] {
        &self.first
    }
}

impl FromIterator<ConfigProblem> for ProblemList {
    fn from_iter<I: IntoIterator<Item = ConfigProblem>>(all: I) -> Self {
        let mut list = Self::default();
        for problem in all {
            list.count += 1;
            if list.first.len() < PROBLEMS_MAX {
                list.first.push(problem);
            }
        }
        list
    }
}

/// The missing parts of an active configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incomplete {
    /// Entities that were skipped.
    pub left_out: ProblemList,
    /// References to secrets that cannot be resolved.
    pub missing_secrets: ProblemList,
}

/// The result of reading a configuration.
#[derive(Clone, Debug)]
pub enum ConfigOutcome {
    /// The configuration is active.
    Applied(Incomplete),
    /// The configuration was rejected; the previous one stays active.
    Rejected(Vec<ConfigProblem>),
    /// At the start, the configuration was rejected: the last known good configuration is active.
    LastGood {
        /// The problems of the files.
        problems: Vec<ConfigProblem>,
        /// The missing parts of the active configuration.
        incomplete: Incomplete,
        /// When it was saved, if known.
        saved_at: Option<UnixMillis>,
    },
    /// After a failure, the configuration can be read again, and equals the active one.
    Unchanged,
}

impl ConfigOutcome {
    /// The result of an update.
    pub fn of(ack: &Ack) -> Self {
        match ack {
            Ack::Applied { .. } => {
                Self::Applied(Incomplete { left_out: ProblemList::by_entity(ack.errors()), ..Incomplete::default() })
            }
            Ack::Refused(Refusal::Invalid(_)) => Self::Rejected(ack.errors().map(ConfigProblem::from).collect()),
            Ack::Refused(Refusal::Failed(message)) => {
                Self::Rejected(vec![ConfigProblem { message: message.clone(), ..ConfigProblem::default() }])
            }
        }
    }
}

/// The state of the node's configuration, with the results of its last changes.
#[derive(Clone, Debug, Default)]
pub struct ConfigState {
    /// The last reload, or the start, was successful.
    pub successful: bool,
    /// When that was.
    pub at: UnixMillis,
    /// When the active configuration was applied.
    pub applied_at: UnixMillis,
    /// Number of successful reloads, without the start.
    pub reloads_succeeded: u64,
    /// Number of failed reloads.
    pub reloads_failed: u64,
    /// The last known good configuration is active, because the source's configuration was rejected at the start.
    pub from_last_good: bool,
    /// When the active last known good configuration was saved, if known.
    pub last_good_saved_at: Option<UnixMillis>,
    /// The missing parts of the active configuration.
    pub incomplete: Incomplete,
    /// The problems of the last reload.
    pub problems: ProblemList,
    /// Why the source cannot be read at the moment, if that is so.
    pub unavailable: Option<String>,
    /// The revision of the store that is active; `None` if the source has no revisions.
    pub revision: Option<u64>,
    /// The first report, which is about the start, has been made.
    started: bool,
}

/// The result of the last change of the configuration. Written by the source, which also knows about unreadable files;
/// read by the status pages.
#[derive(Debug)]
pub struct ConfigStatus {
    state: Mutex<ConfigState>,
    clock: Arc<dyn Clock>,
    accepts_empty: bool,
}

/// With the system clock.
impl Default for ConfigStatus {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()))
    }
}

impl ConfigStatus {
    /// Without any report. The clock supplies the times of reports.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock, accepts_empty: false }
    }

    /// For a source whose configuration may be empty in normal operation, such as a new database: the node is ready with it.
    #[must_use]
    pub fn accepting_empty(self) -> Self {
        Self { accepts_empty: true, ..self }
    }

    /// Whether a node with an empty configuration is ready.
    pub fn accepts_empty(&self) -> bool {
        self.accepts_empty
    }

    /// Records the active revision of a source that has revisions.
    pub fn set_revision(&self, revision: u64) {
        self.lock().revision = Some(revision);
    }

    /// Records why the source cannot be read at the moment, or that it can be read.
    pub fn set_unavailable(&self, why: Option<String>) {
        self.lock().unavailable = why;
    }

    /// Records a result. The first one is about the start.
    pub fn report(&self, outcome: ConfigOutcome) {
        let now = self.clock.unix();
        let mut state = self.lock();
        let reload = std::mem::replace(&mut state.started, true);
        state.at = now;
        let problems = match outcome {
            ConfigOutcome::Applied(incomplete) => {
                (state.successful, state.from_last_good, state.incomplete) = (true, false, incomplete);
                (state.applied_at, state.last_good_saved_at) = (now, None);
                Vec::new()
            }
            ConfigOutcome::LastGood { problems, incomplete, saved_at } => {
                (state.successful, state.from_last_good, state.incomplete) = (false, true, incomplete);
                (state.applied_at, state.last_good_saved_at) = (now, saved_at);
                problems
            }
            ConfigOutcome::Rejected(problems) => {
                state.successful = false;
                problems
            }
            ConfigOutcome::Unchanged => {
                state.successful = true;
                Vec::new()
            }
        };
        state.problems = problems.into_iter().collect();
        if reload {
            let successful = state.successful;
            let counter = if successful { &mut state.reloads_succeeded } else { &mut state.reloads_failed };
            *counter += 1;
        }
    }

    /// Age of the active last known good configuration; `None` if none is active, or its age is unknown.
    pub fn last_good_age_seconds(&self) -> Option<u64> {
        let saved_at = self.lock().last_good_saved_at?;
        Some(self.clock.unix().0.saturating_sub(saved_at.0) / 1_000)
    }

    /// The recorded state.
    pub fn state(&self) -> ConfigState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ConfigState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
