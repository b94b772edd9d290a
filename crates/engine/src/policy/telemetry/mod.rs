//! Distributed tracing: which record applies to a request, and whether the request is traced.
//!
//! [`TelemetryPlans`] is built when a generation is planned; [`request`] traces a request from its head to its log
//! phase; [`export`] sends the spans of finished requests from the control runtime.

mod export;
mod request;
mod span;
mod spans;
mod trace;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::{Code, Diagnostic, Id, Ir, Secrets, Severity, SpanExporter, Telemetry, UnresolvedSecret};
use cardinal_sdk::Services;

pub(crate) use export::{Counters, Exporter};
pub(crate) use request::{attempt_ended, attempt_failed, before_attempt, finish, start};
pub(crate) use trace::RequestTrace;

#[cfg(test)]
mod tests;

/// Base of sampling thresholds: a threshold is the number of traced requests per this many requests.
const SAMPLING_BASE: u64 = 1_000_000_000;

/// The tracing of a generation, by scope.
pub(crate) struct TelemetryPlans {
    all: HashMap<Id, Arc<TelemetryPlan>>,
    /// For one route (an origin's id), the best first.
    by_route: HashMap<Id, Vec<Arc<TelemetryPlan>>>,
    /// For one backend and any route, by listener group.
    by_backend: HashMap<(Option<Id>, Id), Arc<TelemetryPlan>>,
    /// For any request, by listener group.
    rest: HashMap<Option<Id>, Arc<TelemetryPlan>>,
}

/// A compiled telemetry record.
pub(crate) struct TelemetryPlan {
    pub(crate) id: Id,
    pub(crate) record: Arc<Telemetry>,
    pub(crate) exporter: Option<Exporter>,
    sampling: Thresholds,
    problems: Vec<Diagnostic>,
}

/// Number of traced requests per [`SAMPLING_BASE`] requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thresholds {
    /// For requests that ask to be traced.
    asked: u64,
    /// For requests without a sampling decision.
    open: u64,
}

impl TelemetryPlans {
    /// Builds the tracing of a generation; `None` if no record configures it. Unchanged parts are reused from
    /// `previous`.
    pub(crate) fn build(
        (ir, secrets): (&Ir, &Secrets),
        previous: Option<&Arc<Self>>,
        services: &Services,
    ) -> Option<Arc<Self>> {
        if ir.telemetry.is_empty() {
            return None;
        }
        let mut plans =
            Self { all: HashMap::new(), by_route: HashMap::new(), by_backend: HashMap::new(), rest: HashMap::new() };
        for (id, record) in ir.telemetry.iter() {
            let old = previous.and_then(|previous| previous.all.get(id));
            // A record that lacked a secret is planned again.
            let plan = match old.filter(|old| Arc::ptr_eq(&old.record, record) && old.problems.is_empty()) {
                Some(same) => Arc::clone(same),
                None => Arc::new(TelemetryPlan::new(*id, Arc::clone(record), secrets, services)),
            };
            plans.add(&plan);
            plans.all.insert(*id, plan);
        }
        for list in plans.by_route.values_mut() {
            list.sort_by_key(|plan| Reverse(plan.order()));
        }
        Some(Arc::new(plans))
    }

    fn add(&mut self, plan: &Arc<TelemetryPlan>) {
        let better = |old: Option<&Arc<TelemetryPlan>>| old.is_none_or(|old| plan.order() > old.order());
        let listeners = plan.record.scope.listeners;
        match (plan.record.scope.route, plan.record.scope.backend) {
            (Some(route), _) => self.by_route.entry(route).or_default().push(Arc::clone(plan)),
            (None, Some(backend)) => {
                if better(self.by_backend.get(&(listeners, backend))) {
                    self.by_backend.insert((listeners, backend), Arc::clone(plan));
                }
            }
            (None, None) => {
                if better(self.rest.get(&listeners)) {
                    self.rest.insert(listeners, Arc::clone(plan));
                }
            }
        }
    }

    /// The plan for requests that arrive at a listener group, through a route (an origin's id) to a backend: see
    /// [`cardinal_ir::resolve::telemetry`].
    pub(crate) fn find(
        &self,
        listeners: Option<Id>,
        route: Option<Id>,
        backend: Option<Id>,
    ) -> Option<&Arc<TelemetryPlan>> {
        let of_route = route.and_then(|id| self.by_route.get(&id)).and_then(|plans| {
            plans.iter().find(|plan| plan.record.scope.backend.is_none() || plan.record.scope.backend == backend)
        });
        let of_backend = backend.and_then(|id| self.by_backend.get(&(listeners, id)));
        of_route.into_iter().chain(of_backend).chain(self.rest.get(&listeners)).max_by_key(|plan| plan.order())
    }

    /// Problems of records.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut plans: Vec<_> = self.all.values().collect();
        plans.sort_by_key(|plan| plan.id);
        plans.into_iter().flat_map(|plan| plan.problems.iter().cloned()).collect()
    }
}

impl TelemetryPlan {
    fn new(id: Id, record: Arc<Telemetry>, secrets: &Secrets, services: &Services) -> Self {
        let mut problems = Vec::new();
        let mut refuse = |code: Code, path: &str, message: String| {
            let (origin, path) = (record.origin.clone(), path.to_owned());
            let severity = Severity::Error;
            problems.push(Diagnostic { severity, code, origin, location: None, path, message, hint: None });
        };
        let exporter = record.exporter.as_ref().and_then(|exporter| {
            let mut refuse = |code, path: &str, reason| refuse(code, path, format!("{reason}; no spans are exported"));
            let exporter = match with_secrets(exporter, secrets) {
                Ok(exporter) => exporter,
                Err(unresolved) => {
                    refuse(Code::Secret, "exporter.headers", unresolved.to_string());
                    return None;
                }
            };
            Exporter::open(&record, &exporter, services).map_err(|reason| refuse(Code::Schema, "exporter", reason)).ok()
        });
        let sampling = &record.sampling;
        let percents = [sampling.client_percent, sampling.random_percent, sampling.overall_percent];
        if !percents.iter().all(|percent| (0.0..=100.0).contains(percent)) {
            refuse(
                Code::Schema,
                "sampling",
                "a percentage is not within 0 and 100; it is taken as the nearest that is".to_owned(),
            );
        }
        let [asked, open, overall] = percents.map(threshold);
        let sampling = Thresholds { asked: asked.min(overall), open: open.min(overall) };
        Self { id, record, exporter, sampling, problems }
    }

    /// The plan with the higher order applies.
    fn order(&self) -> (u32, Reverse<Id>) {
        (self.record.precedence, Reverse(self.id))
    }

    /// The export destination, for `explain`.
    pub(crate) fn destination(&self) -> Option<String> {
        self.exporter.as_ref().map(Exporter::destination)
    }

    /// Whether a request is traced. `asked` is the client's sampling decision; `random` is only called if the result
    /// depends on it.
    fn is_sampled(&self, asked: Option<bool>, random: impl FnOnce() -> u64) -> bool {
        let threshold = match asked {
            Some(false) => 0,
            Some(true) => self.sampling.asked,
            None => self.sampling.open,
        };
        threshold == SAMPLING_BASE || (threshold > 0 && random() % SAMPLING_BASE < threshold)
    }
}

/// Builds an exporter with the secrets in its headers.
fn with_secrets(exporter: &SpanExporter, secrets: &Secrets) -> Result<SpanExporter, UnresolvedSecret> {
    let header = |(name, value): &(Box<str>, Box<str>)| Ok((name.clone(), secrets.resolve_text(value)?.into()));
    let headers = exporter.headers.iter().map(header).collect::<Result<_, _>>()?;
    Ok(SpanExporter { headers, ..exporter.clone() })
}

/// The threshold for a percentage; 0 for NaN.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a billion")]
fn threshold(percent: f64) -> u64 {
    (percent.clamp(0.0, 100.0) * 1e7).round() as u64
}
