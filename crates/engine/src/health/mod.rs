//! Active health checks: runs the probes that balanced groups schedule, logs changes, and lists states for metrics.
//!
//! This module does the I/O. The groups decide when to probe an address and how to interpret the result.

mod grpc;
mod probe;
mod prober;
mod request;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use cardinal_balance::health::Signal;
use cardinal_balance::{Event, Group, Observed};
use cardinal_base::{Tick, task};

use crate::exchange::target_text;
use crate::node::Node;
use prober::Prober;
pub(crate) use targets::{group_name, targets};

/// Maximum interval between two checks for due probes: a new generation may have groups that need probes immediately.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Minimum interval between two checks for due probes.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(5);

/// Runs probes until the task ends. Probes in progress end by themselves.
pub(crate) async fn run_probes(node: Arc<Node>) {
    let prober = Prober::new(node);
    loop {
        let now = prober.now();
        let next = prober.look(now);
        let wait = next.map_or(LOOK_PERIOD, |next| next.since(now));
        prober.node.services.clock.sleep(wait.clamp(LOOK_PERIOD_MIN, LOOK_PERIOD)).await;
    }
}

impl Prober {
    /// Starts all due probes; returns when the next probe is due.
    fn look(self: &Arc<Self>, now: Tick) -> Option<Tick> {
        let mut next = None;
        for group in self.node.shared.registry.groups() {
            self.start(&group, now);
            next = next.into_iter().chain(group.next_due(now)).min();
        }
        next
    }

    /// Starts the due probes of a group, and logs its state changes.
    fn start(self: &Arc<Self>, group: &Arc<Group>, now: Tick) {
        group.evaluate(now);
        for event in group.take_events() {
            tell(group, &event);
        }
        for probe in group.due(now) {
            let (prober, group) = (Arc::clone(self), Arc::clone(group));
            // The task is detached: it reports its result to the group.
            drop(task::spawn("health probe", async move {
                let (outcome, detail) = probe::run(&prober, &probe).await;
                let detail = detail.as_deref().unwrap_or_default();
                tracing::debug!(host = %probe.host, address = %probe.address, ?outcome, detail, "health probe");
                let shown = (!detail.is_empty()).then_some(&detail as &dyn std::fmt::Display);
                group.probe_result_with(probe.key, outcome, shown, prober.now());
                // The finished probe leaves room for a probe that waits.
                prober.start(&group, prober.now());
            }));
        }
    }
}

fn tell(group: &Group, event: &Event) {
    let Some(name) = group_name(&group.spec()) else { return };
    match event {
        Event::Address { host, address, healthy, cause, observed, .. } => {
            let target = target_text(host, *address);
            let reason = observed.as_ref().map_or_else(|| "set by hand".to_owned(), |seen| reason(seen, cause));
            if *healthy {
                tracing::info!(upstream = %name, target, cause, reason, "target {target} of upstream {name} is healthy: {reason}");
            } else {
                tracing::warn!(upstream = %name, target, cause, reason, "target {target} of upstream {name} is unhealthy: {reason}");
            }
        }
        Event::Name { host, port, failure: Some(reason) } => {
            let target = format!("{host}:{port}");
            tracing::warn!(upstream = %name, target, reason = %reason, "target {target} of upstream {name} cannot be resolved: {reason}");
        }
        Event::Name { host, port, failure: None } => {
            let target = format!("{host}:{port}");
            tracing::info!(upstream = %name, target, "target {target} of upstream {name} resolves again");
        }
        Event::Ejected { host, address, detector, lasts, detail, .. } => {
            let (target, detector, lasts_ms) = (target_text(host, *address), detector.label(), lasts.as_millis());
            let reason = detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
            tracing::warn!(upstream = %name, target, detector, lasts_ms, "target {target} of upstream {name} is ejected for {lasts_ms} ms by the detector {detector}{reason}");
        }
        Event::Returned { host, address, .. } => {
            let target = target_text(host, *address);
            tracing::info!(upstream = %name, target, "target {target} of upstream {name} is no longer ejected");
        }
        Event::Panic { panics: true } => {
            tracing::warn!(upstream = %name, "upstream {name} has too few available targets: all are used, healthy or not");
        }
        Event::Panic { panics: false } => {
            tracing::info!(upstream = %name, "upstream {name} has enough available targets again");
        }
        Event::Group { healthy: true } => tracing::info!(upstream = %name, "upstream {name} has healthy targets"),
        Event::Group { healthy: false } => tracing::warn!(upstream = %name, "upstream {name} has no healthy targets"),
    }
}

/// The cause of a state change as text: `3 connection failures (traffic): ...`.
fn reason(observed: &Observed, cause: &str) -> String {
    let (one, many) = match observed.signal {
        Signal::Success => ("success", "successes"),
        Signal::Http => ("HTTP failure", "HTTP failures"),
        Signal::Tcp => ("connection failure", "connection failures"),
        Signal::Timeout => ("timeout", "timeouts"),
    };
    let what = if observed.count == 1 { one } else { many };
    let last = match (observed.signal, observed.status) {
        (_, Some(status)) => format!(", the last with status {status}"),
        (Signal::Http, None) => ", the last with an invalid response".to_owned(),
        (Signal::Success | Signal::Tcp | Signal::Timeout, None) => String::new(),
    };
    let place = if cause == "probe" { "active checks" } else { "traffic" };
    let detail = observed.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{} {what}{last} ({place}){detail}", observed.count)
}

#[cfg(test)]
pub(crate) mod tests;
