//! [`Registry`]: all series of the node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_sdk::Services;

use super::families::{FAMILIES, Metric};
use super::node::NodeFacts;
use super::series::Series;
use super::text;

/// Sets of labels that a metric has at most. Beyond, new ones are not counted; `kong_nginx_metric_errors_total` counts
/// them.
pub const SERIES_MAX: usize = 10_000;

pub(super) type SeriesMap = BTreeMap<Box<[Box<str>]>, Arc<Series>>;

/// All series of the node. Outlives generations.
pub(super) struct Registry {
    /// Identifies the registry in caches of threads.
    pub(super) number: u64,
    families: [Mutex<SeriesMap>; FAMILIES.len()],
    errors: AtomicU64,
    /// Instances that enable metrics of the health of upstream targets.
    health_wanted: AtomicUsize,
}

impl Default for Registry {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            families: Default::default(),
            errors: AtomicU64::new(0),
            health_wanted: AtomicUsize::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the metrics to what the node's `/metrics` shows, also before any instance is configured.
pub fn register(services: &Services) {
    registry(services);
}

pub(super) fn registry(services: &Services) -> Arc<Registry> {
    let registry = services.shared.get_or_insert("prometheus", Registry::default);
    let (shown, node) = (Arc::clone(&registry), Arc::clone(&services.node));
    let (node_id, runtime) = (services.node_id, services.runtime.clone());
    services.shared.set_collector(
        "prometheus",
        Arc::new(move |out: &mut String| {
            let facts = NodeFacts::now(node_id, &*node, &runtime, shown.health_wanted.load(Ordering::Relaxed) > 0);
            shown.write(&facts, out);
        }),
    );
    registry
}

impl Registry {
    /// The series of these labels, made when there is room for it.
    pub(super) fn series(&self, metric: Metric, labels: &[&str]) -> Option<Arc<Series>> {
        let at = metric as usize;
        let (family, series) = FAMILIES.get(at).zip(self.families.get(at))?;
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let mut series = lock(series);
        let labels: Box<[Box<str>]> = labels.iter().map(|label| (*label).into()).collect();
        if let Some(found) = series.get(&labels) {
            return Some(Arc::clone(found));
        }
        if series.len() >= SERIES_MAX {
            return None;
        }
        let made = Arc::new(Series::new(family.kind));
        series.insert(labels, Arc::clone(&made));
        Some(made)
    }

    /// Something was not counted because a limit was reached.
    pub(super) fn fail(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes everything, in alphabetical order of the metrics.
    pub(super) fn write(&self, facts: &NodeFacts, out: &mut String) {
        let mut blocks: BTreeMap<&str, String> = facts.write(self.errors.load(Ordering::Relaxed));
        for (family, series) in FAMILIES.iter().zip(&self.families) {
            let series = lock(series).clone();
            if !series.is_empty() {
                blocks.insert(family.name, text::family(family, &series));
            }
        }
        out.extend(blocks.into_values());
    }
}

/// Held by instances that enable metrics of the health of upstream targets.
pub(super) struct HealthWanted(Arc<Registry>);

impl HealthWanted {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        registry.health_wanted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(registry))
    }
}

impl Drop for HealthWanted {
    fn drop(&mut self) {
        self.0.health_wanted.fetch_sub(1, Ordering::Relaxed);
    }
}
