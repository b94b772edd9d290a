//! Metrics of the node, read on each scrape.

use std::collections::{BTreeMap, HashMap};

use cardinal_ir::Id;
use cardinal_sdk::{ConnectionCounts, NodeView, TargetHealth};

use super::text::{header, labels, sample};

/// What a target may be.
const STATES: [&str; 4] = ["dns_error", "healthchecks_off", "healthy", "unhealthy"];

const STATES_FROM_WORST: [&str; 4] = ["unhealthy", "dns_error", "healthchecks_off", "healthy"];

/// Facts about the node at one time.
pub(super) struct NodeFacts {
    pub(super) id: Id,
    pub(super) version: &'static str,
    pub(super) pid: u32,
    /// Resident memory of the process; `None` where the system does not report it.
    pub(super) memory_bytes: Option<u64>,
    pub(super) connections: ConnectionCounts,
    /// Background tasks there are, and those that are ready and wait for a thread.
    pub(super) tasks: (usize, usize),
    /// `None` when no instance enables them.
    pub(super) targets: Option<Vec<TargetHealth>>,
}

impl NodeFacts {
    pub(super) fn now(id: Id, node: &dyn NodeView, runtime: &tokio::runtime::Handle, health: bool) -> Self {
        let metrics = runtime.metrics();
        Self {
            id,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            memory_bytes: resident_bytes(),
            connections: node.connections(),
            tasks: (metrics.num_alive_tasks(), metrics.global_queue_depth()),
            targets: health.then(|| node.targets()),
        }
    }

    /// The text of each metric, by name.
    pub(super) fn write(&self, errors: u64) -> BTreeMap<&'static str, String> {
        let mut blocks = BTreeMap::new();
        let mut add = |name: &'static str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let mut block = header(name, kind, help);
            samples.iter().for_each(|(labels, value)| sample(&mut block, name, labels, value));
            blocks.insert(name, block);
        };
        let id = self.id.to_string();
        let of = |pairs: &[(&str, &str)]| labels(pairs.iter().copied());
        let node = ("node_id", id.as_str());

        add("datastore_reachable", "gauge", "Whether the configuration store can be reached", &[(String::new(), 1)]);
        if let Some(bytes) = self.memory_bytes {
            let at = of(&[node, ("pid", &self.pid.to_string()), ("kong_subsystem", "http")]);
            add("memory_workers_lua_vms_bytes", "gauge", "Resident memory of the process", &[(at, bytes)]);
        }
        let c = self.connections;
        let connections = [
            ("accepted", c.accepted),
            ("active", c.active),
            ("handled", c.handled),
            ("reading", c.reading),
            ("total", c.requests),
            ("waiting", c.waiting),
            ("writing", c.writing),
        ]
        .map(|(state, count)| (of(&[node, ("subsystem", "http"), ("state", state)]), count));
        add("nginx_connections_total", "gauge", "Client connections by state", &connections);
        add(
            "nginx_metric_errors_total",
            "counter",
            "Observations lost because a metric has too many label sets",
            &[(String::new(), errors)],
        );
        let requests = (of(&[node, ("subsystem", "http")]), c.requests);
        add("nginx_requests_total", "gauge", "Requests since the start", &[requests]);
        let tasks = [("pending", self.tasks.1), ("running", self.tasks.0)]
            .map(|(state, count)| (of(&[("state", state)]), count as u64));
        add("nginx_timers", "gauge", "Background tasks", &tasks);
        add("node_info", "gauge", "The node", &[(of(&[node, ("version", self.version)]), 1)]);
        if let Some(targets) = &self.targets {
            let health: Vec<_> = distinct(targets).into_iter().flat_map(target).collect();
            add("upstream_target_health", "gauge", "State of upstream targets: 1 for the one it is in", &health);
        }
        blocks
    }
}

/// Targets by what labels tell of them: upstreams of one name, in several workspaces, may have equal targets, and a series must
/// not come twice. Of several states the worst counts.
fn distinct(targets: &[TargetHealth]) -> Vec<&TargetHealth> {
    let rank = |target: &TargetHealth| STATES_FROM_WORST.iter().position(|state| *state == target.state);
    let mut found: Vec<&TargetHealth> = Vec::new();
    let mut places = HashMap::new();
    for target in targets {
        let place = *places.entry((&target.upstream, &target.target, &target.address)).or_insert(found.len());
        match found.get_mut(place) {
            None => found.push(target),
            Some(other) if rank(target) < rank(other) => *other = target,
            Some(_) => {}
        }
    }
    found
}

fn target(target: &TargetHealth) -> impl Iterator<Item = (String, u64)> {
    STATES.into_iter().map(move |state| {
        let pairs = [
            ("upstream", &*target.upstream),
            ("target", &*target.target),
            ("address", &*target.address),
            ("state", state),
            ("subsystem", "http"),
        ];
        (labels(pairs.into_iter()), u64::from(target.state == state))
    })
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}
