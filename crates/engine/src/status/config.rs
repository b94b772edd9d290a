//! [`ConfigState`]: how the last change of the configuration went.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinal_base::UnixMillis;
use serde::Serialize;

/// Problems that are kept for `/status`.
const PROBLEMS_MAX: usize = 20;

/// One error in a configuration. What is not known is empty, or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What came of reading the configuration.
#[derive(Clone, Debug)]
pub enum ConfigOutcome {
    /// It is served.
    Applied {
        /// Entities that were left out of it.
        left_out: usize,
    },
    /// It cannot be served; what was served before still is.
    Rejected(Vec<ConfigProblem>),
    /// When the node started, its files could not be served: the last known good configuration is.
    LastGood {
        /// What is wrong with the files.
        problems: Vec<ConfigProblem>,
        /// Entities that were left out of what is served.
        left_out: usize,
    },
    /// After it could not be read, it was: it is what is served.
    Unchanged,
}

/// What is known of the configuration's last changes.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigFacts {
    /// The last reload, or the start, was successful.
    pub(super) successful: bool,
    /// When that was.
    pub(super) at: UnixMillis,
    /// When what is served was applied.
    pub(super) applied_at: UnixMillis,
    pub(super) reloads_succeeded: u64,
    pub(super) reloads_failed: u64,
    pub(super) from_last_good: bool,
    pub(super) left_out: usize,
    /// The first problems of the last reload.
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) problem_count: usize,
    /// The first report is that of the start.
    started: bool,
}

/// How the last change of the configuration went; written by the thread that reads it.
#[derive(Debug, Default)]
pub(crate) struct ConfigState(Mutex<ConfigFacts>);

impl ConfigState {
    pub(crate) fn report(&self, outcome: ConfigOutcome, now: UnixMillis) {
        let mut facts = self.lock();
        let reload = std::mem::replace(&mut facts.started, true);
        facts.at = now;
        let problems = match outcome {
            ConfigOutcome::Applied { left_out } => {
                (facts.successful, facts.from_last_good, facts.left_out) = (true, false, left_out);
                facts.applied_at = now;
                Vec::new()
            }
            ConfigOutcome::LastGood { problems, left_out } => {
                (facts.successful, facts.from_last_good, facts.left_out) = (false, true, left_out);
                facts.applied_at = now;
                problems
            }
            ConfigOutcome::Rejected(problems) => {
                facts.successful = false;
                problems
            }
            ConfigOutcome::Unchanged => {
                facts.successful = true;
                Vec::new()
            }
        };
        facts.problem_count = problems.len();
        facts.problems = problems;
        facts.problems.truncate(PROBLEMS_MAX);
        if reload {
            let successful = facts.successful;
            let counter = if successful { &mut facts.reloads_succeeded } else { &mut facts.reloads_failed };
            *counter += 1;
        }
    }

    pub(super) fn facts(&self) -> ConfigFacts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ConfigFacts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
