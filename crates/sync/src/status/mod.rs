//! [`ConfigStatus`]: the result of the last change of the configuration, for status pages and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_base::{Clock, SystemClock, UnixMillis};
use cardinal_ir::Diagnostic;
use serde::Serialize;

use crate::{Ack, Refusal};

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

/// The result of reading the configuration.
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

impl ConfigOutcome {
    /// The result of an update.
    pub fn of(ack: &Ack) -> Self {
        match ack {
            Ack::Applied { .. } => Self::Applied { left_out: ack.errors().count() },
            Ack::Refused(Refusal::Invalid(_)) => Self::Rejected(ack.errors().map(ConfigProblem::from).collect()),
            Ack::Refused(Refusal::Failed(message)) => {
                Self::Rejected(vec![ConfigProblem { message: message.clone(), ..ConfigProblem::default() }])
            }
        }
    }
}

/// What is known of the configuration's last changes.
#[derive(Clone, Debug, Default)]
pub struct ConfigFacts {
    /// The last reload, or the start, was successful.
    pub successful: bool,
    /// When that was.
    pub at: UnixMillis,
    /// When what is served was applied.
    pub applied_at: UnixMillis,
    /// Reloads that were successful. The start is none.
    pub reloads_succeeded: u64,
    /// Reloads that were not.
    pub reloads_failed: u64,
    /// The last known good configuration is served, because that of the source was refused at the start.
    pub from_last_good: bool,
    /// Objects of the configuration that are not served.
    pub left_out: usize,
    /// The first problems of the last reload.
    pub problems: Vec<ConfigProblem>,
    /// How many problems there were.
    pub problem_count: usize,
    /// The first report is that of the start.
    started: bool,
}

/// The result of the last change of the configuration. Written by the source, which alone knows of what it cannot read; shown
/// by the node.
#[derive(Debug)]
pub struct ConfigStatus {
    facts: Mutex<ConfigFacts>,
    clock: Arc<dyn Clock>,
}

/// With the machine's clock.
impl Default for ConfigStatus {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()))
    }
}

impl ConfigStatus {
    /// Nothing was reported yet. The clock gives the times of reports.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { facts: Mutex::default(), clock }
    }

    /// Notes a result. The first one is that of the start.
    pub fn report(&self, outcome: ConfigOutcome) {
        let now = self.clock.unix();
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

    /// What was reported.
    pub fn facts(&self) -> ConfigFacts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ConfigFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
