//! [`Node`]: the state shared by all workers and the control runtime.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use cardinal_base::UnixMillis;
use cardinal_base::metrics::MetricSource;
use cardinal_net::Io;
use cardinal_sdk::{ConnectionCounts, NodeView, Services, StatusForm, TargetHealth};
use cardinal_sync::ConfigStatus;

use crate::access_log::AccessLog;
use crate::connector::Trust;
use crate::counters::{Counters, Totals};
use crate::names::Names;
use crate::plan::{Plan, Registry};
use crate::policy::circuit::Shortage;
use crate::status::{Digests, PlainStatus};

/// Opens connections to backends in memory, in tests and benchmarks.
pub(crate) type Dial = Box<dyn Fn(SocketAddr) -> Io + Send + Sync>;

/// The state shared by all workers.
pub(crate) struct Node {
    plan: ArcSwapOption<Plan>,
    /// Number of the active plan; workers check it before each request.
    generation: AtomicU64,
    /// Replaced plans that requests may still hold; freed by the planning thread instead of a worker.
    retired: Mutex<Vec<Arc<Plan>>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) services: Services,
    pub(crate) names: Names,
    pub(crate) access_log: Option<AccessLog>,
    /// Hashes of generations, for the status listener.
    pub(crate) digests: Digests,
    /// Seed of the workers' randomness; `None` seeds from the operating system.
    pub(crate) seed: Option<u64>,
    /// The result of the last change of the configuration.
    pub(crate) config: Arc<ConfigStatus>,
    /// It serves status pages alone.
    pub(crate) is_idle: bool,
    /// The format of status pages.
    pub(crate) status_form: &'static dyn StatusForm,
    /// Other parts of the process whose metrics `/metrics` shows.
    pub(crate) metric_sources: Vec<Arc<dyn MetricSource>>,
    /// When the node was started.
    pub(crate) started: UnixMillis,
    /// Number of open client connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Signals to workers that other workers wait for connections.
    pub(crate) shortage: Shortage,
    /// The next connection number.
    pub(crate) next_connection: AtomicU64,
    draining: AtomicBool,
    pub(crate) dial: OnceLock<Dial>,
    /// Maximum number of client connections for which the file descriptors of the process suffice; 0 if unknown.
    connections_fitting: AtomicU32,
    /// Number of connections that were still open when the drain timeout expired.
    pub(crate) cut_off: AtomicU64,
}

/// The part of the node that metrics read; filters hold it too.
pub(crate) struct Shared {
    pub(crate) counters: Vec<Counters>,
    pub(crate) registry: Registry,
    /// The certificate authorities that verify servers of the node's own calls.
    pub(crate) trust: Arc<Trust>,
}

impl Node {
    pub(crate) fn new(shared: Arc<Shared>, services: Services, names: Names, access_log: Option<AccessLog>) -> Self {
        let started = services.clock.unix();
        let config = Arc::new(ConfigStatus::new(Arc::clone(&services.clock)));
        Self {
            plan: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            retired: Mutex::default(),
            shared,
            services,
            names,
            access_log,
            digests: Digests::default(),
            seed: None,
            config,
            is_idle: false,
            status_form: &PlainStatus,
            metric_sources: Vec::new(),
            started,
            connections: AtomicUsize::new(0),
            shortage: Shortage::default(),
            next_connection: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            dial: OnceLock::new(),
            connections_fitting: AtomicU32::new(0),
            cut_off: AtomicU64::new(0),
        }
    }

    /// Maximum number of client connections: the configured limit (0 is no limit), or fewer if the file descriptors do
    /// not suffice.
    pub(crate) fn connections_max(&self, configured: u32) -> u32 {
        match (configured, self.connections_fitting.load(Ordering::Relaxed)) {
            (configured, 0) => configured,
            (0, fitting) => fitting,
            (configured, fitting) => configured.min(fitting),
        }
    }

    pub(crate) fn set_connections_fitting(&self, count: u32) {
        self.connections_fitting.store(count, Ordering::Relaxed);
    }

    /// Number of the active plan; 0 before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The active plan.
    pub(crate) fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.load_full()
    }

    /// Activates a plan. Requests in progress keep theirs.
    pub(crate) fn publish(&self, plan: Plan) {
        let generation = plan.generation;
        self.shared.trust.set(plan.node().upstream_authorities.as_deref());
        let memory = plan.node().limits.buffered_bytes_total_max;
        self.services.memory.set_max(usize::try_from(memory).unwrap_or(usize::MAX));
        let old = self.plan.swap(Some(Arc::new(plan)));
        self.generation.store(generation, Ordering::Release);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).extend(old);
    }

    /// The number of replaced plans that requests may still hold.
    pub(crate) fn retired_plans(&self) -> usize {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Frees replaced plans that no request holds any more; `false` if there are none. Called periodically by the
    /// planning thread.
    pub(crate) fn free_retired(&self) -> bool {
        let free: Vec<_> = {
            let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            let (free, held) = retired.drain(..).partition(|plan| Arc::strong_count(plan) == 1);
            *retired = held;
            free
        };
        !free.is_empty()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals()
    }
}

impl Shared {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.counters {
            counters.add_to(&mut totals);
        }
        totals
    }
}

impl NodeView for Shared {
    fn connections(&self) -> ConnectionCounts {
        let totals = self.totals();
        ConnectionCounts {
            accepted: totals.accepted,
            handled: totals.accepted,
            requests: totals.requests,
            active: totals.active,
            reading: 0,
            writing: totals.serving,
            waiting: totals.active.saturating_sub(totals.serving),
        }
    }

    fn targets(&self) -> Vec<TargetHealth> {
        crate::health::targets(&self.registry)
    }
}
