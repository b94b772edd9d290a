//! Counting an exchange. After a thread has first used a set of labels, no lock is taken: each thread caches the
//! series of the routes it has served.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use cardinal_ir::Id;
use cardinal_sdk::log::{Latencies, is_stream, status, workspace_name};
use cardinal_sdk::{BuildCx, BuildError, Filter, LogCx, Phases, Source};
use serde_json::Value;

use super::ai;
use super::families::Metric;
use super::registry::{HealthWanted, Registry, registry};
use super::series::Series;

/// Routes, with their services and consumers, whose series a thread caches.
const KNOWN_MAX: usize = 4_096;

struct Prometheus {
    registry: Arc<Registry>,
    per_consumer: bool,
    statuses: bool,
    latencies: bool,
    bandwidth: bool,
    ai: bool,
    _health: Option<HealthWanted>,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let flag = |field: &str| config.get(field).and_then(Value::as_bool).unwrap_or(false);
    let registry = registry(cx.services);
    Ok(Arc::new(Prometheus {
        per_consumer: flag("per_consumer"),
        statuses: flag("status_code_metrics"),
        latencies: flag("latency_metrics"),
        bandwidth: flag("bandwidth_metrics"),
        ai: flag("ai_metrics"),
        _health: flag("upstream_health_metrics").then(|| HealthWanted::new(&registry)),
        registry,
    }))
}

impl Filter for Prometheus {
    fn phases(&self) -> Phases {
        let counts = self.statuses || self.latencies || self.bandwidth || self.ai;
        if counts { Phases::LOG } else { Phases::NONE }
    }

    fn on_log(&self, cx: &LogCx<'_>) {
        let exchange = cx.exchange;
        let mut id = Uuid36::default();
        let Some(names) = Names::of(cx, self.per_consumer, &mut id) else { return };
        KNOWN.with_borrow_mut(|known| {
            let known = known.series(&self.registry, &names);
            self.count(cx, &names, known);
        });
        if self.ai
            && let Some((_, metrics)) = exchange.log_fields.iter().find(|(name, _)| *name == "ai")
        {
            ai::count(&self.registry, metrics, workspace_name(cx));
        }
    }
}

impl Prometheus {
    fn count(&self, cx: &LogCx<'_>, names: &Names<'_>, known: &mut RouteSeries) {
        let exchange = cx.exchange;
        let stream = is_stream(exchange);
        let registry = &*self.registry;
        if self.bandwidth {
            let directions = [("ingress", exchange.bytes.received), ("egress", exchange.bytes.sent)];
            for ((direction, bytes), slot) in directions.into_iter().zip(&mut known.bandwidth) {
                if bytes > 0 {
                    let labels = [names.service, names.route, direction, names.workspace, names.consumer];
                    slot.count(registry, Metric::Bandwidth, &labels, |series| series.add(bytes));
                }
            }
        }
        if self.statuses {
            known.status(registry, names, status(cx), exchange.source, stream);
        }
        if self.latencies {
            let spent = Latencies::of(exchange);
            let whole = if stream { Metric::SessionDuration } else { Metric::RequestLatency };
            let upstream = spent.proxy.filter(|_| !stream);
            let observed = [
                (Metric::KongLatency, Some(spent.kong)),
                (whole, Some(spent.request)),
                (Metric::UpstreamLatency, upstream),
            ];
            for ((metric, value), slot) in observed.into_iter().zip(&mut known.latencies) {
                if let Some(value) = value {
                    let labels = [names.service, names.route, names.workspace];
                    slot.count(registry, metric, &labels, |series| series.observe(value));
                }
            }
        }
    }
}

/// What an exchange is counted by.
struct Names<'e> {
    key: Key,
    service: &'e str,
    route: &'e str,
    consumer: &'e str,
    /// It does not change while the id of the route is the same.
    workspace: &'e str,
}

/// Route, service, consumer, and whether it is a stream session.
type Key = (Id, Option<Id>, Option<Id>, bool);

/// Room for an id as text.
struct Uuid36([u8; uuid::fmt::Hyphenated::LENGTH]);

impl Default for Uuid36 {
    fn default() -> Self {
        Self([0; uuid::fmt::Hyphenated::LENGTH])
    }
}

impl<'e> Names<'e> {
    /// `None` without a route: such requests are not counted.
    fn of(cx: &LogCx<'e>, per_consumer: bool, id: &'e mut Uuid36) -> Option<Self> {
        let exchange = cx.exchange;
        let route = exchange.route.as_ref()?;
        let backend = exchange.backend.as_deref();
        let principal = exchange.identity.principal.as_deref().filter(|_| per_consumer);
        Some(Self {
            key: (route.id(), backend.map(|b| b.id()), principal.map(|p| p.id), is_stream(exchange)),
            service: backend.map_or("", |b| b.name().unwrap_or_else(|| b.host())),
            route: match route.name() {
                Some(name) => name,
                None => route.id().hyphenated().encode_lower(&mut id.0),
            },
            consumer: principal.and_then(|p| p.record.name.as_deref()).unwrap_or(""),
            workspace: workspace_name(cx),
        })
    }
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// A thread's cache of the registry.
#[derive(Default)]
struct Known {
    registry: u64,
    routes: HashMap<Key, RouteSeries>,
}

/// The series of a route, each looked up when it is first needed.
#[derive(Default)]
struct RouteSeries {
    service: Box<str>,
    route: Box<str>,
    consumer: Box<str>,
    /// In, out.
    bandwidth: [Slot; 2],
    /// Gateway, whole, upstream.
    latencies: [Slot; 3],
    statuses: Vec<(u16, Source, Slot)>,
}

#[derive(Default)]
enum Slot {
    #[default]
    Unseen,
    Known(Arc<Series>),
    /// The metric has too many label sets.
    Refused,
}

impl Known {
    fn series(&mut self, registry: &Registry, names: &Names<'_>) -> &mut RouteSeries {
        if self.registry != registry.number || self.routes.len() >= KNOWN_MAX {
            self.routes.clear();
            self.registry = registry.number;
        }
        let known = self.routes.entry(names.key).or_default();
        // An object keeps its id when it is renamed.
        if *known.service != *names.service || *known.route != *names.route || *known.consumer != *names.consumer {
            *known = RouteSeries {
                service: names.service.into(),
                route: names.route.into(),
                consumer: names.consumer.into(),
                ..RouteSeries::default()
            };
        }
        known
    }
}

impl RouteSeries {
    fn status(&mut self, registry: &Registry, names: &Names<'_>, status: u16, source: Source, stream: bool) {
        let at = match self.statuses.iter().position(|(s, o, _)| (*s, *o) == (status, source)) {
            Some(at) => at,
            None => {
                self.statuses.push((status, source, Slot::Unseen));
                self.statuses.len() - 1
            }
        };
        let Some((_, _, slot)) = self.statuses.get_mut(at) else { return };
        if matches!(slot, Slot::Unseen) {
            let code = status.to_string();
            let origin = if source == Source::Upstream { "service" } else { "kong" };
            let labels = [names.service, names.route, &code, origin, names.workspace, names.consumer];
            *slot = match labels.split_last() {
                Some((_, without_consumer)) if stream => Slot::find(registry, Metric::Sessions, without_consumer),
                _ => Slot::find(registry, Metric::Requests, &labels),
            };
        }
        slot.with(registry, |series| series.add(1));
    }
}

impl Slot {
    fn find(registry: &Registry, metric: Metric, labels: &[&str]) -> Self {
        registry.series(metric, labels).map_or(Self::Refused, Self::Known)
    }

    fn count(&mut self, registry: &Registry, metric: Metric, labels: &[&str], count: impl FnOnce(&Series)) {
        if matches!(self, Self::Unseen) {
            *self = Self::find(registry, metric, labels);
        }
        self.with(registry, count);
    }

    fn with(&self, registry: &Registry, count: impl FnOnce(&Series)) {
        match self {
            Self::Known(series) => count(series),
            Self::Unseen | Self::Refused => registry.fail(),
        }
    }
}
