//! The pages of the status listener.

use cardinal_base::UnixMillis;
use cardinal_sdk::{NodeStatus, NodeView as _, Readiness};
use serde_json::{Value, json};

use super::upstreams;
use crate::node::Node;

const JSON: &str = "application/json; charset=utf-8";

/// A response.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    pub(super) fn message(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "message": text }))
    }

    fn json(status: u16, value: &Value) -> Self {
        Self { status, content_type: JSON, body: value.to_string() }
    }
}

/// Upstreams with their targets.
pub(super) fn upstreams(node: &Node) -> Page {
    Page::json(200, &upstreams::page(node))
}

/// The state of the node, in the format of the front end.
pub(super) async fn status(node: &Node, query: &[u8]) -> Page {
    let configuration_hash = match node.plan() {
        Some(plan) => Some(node.digests.of(&plan).await.to_string()),
        None => None,
    };
    match form(node, query, configuration_hash) {
        Ok(status) => Page::json(200, &status),
        Err(message) => Page::message(400, &message),
    }
}

/// The same with a hash that is known.
pub(crate) fn form(node: &Node, query: &[u8], configuration_hash: Option<String>) -> Result<Value, String> {
    let status = NodeStatus {
        connections: node.shared.connections(),
        pid: std::process::id(),
        resident_bytes: resident_bytes(),
        node: about(node),
        config: config(node),
        configuration_hash,
    };
    node.status_form.status(status, query)
}

/// Properties of the program and the process.
fn about(node: &Node) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "id": node.services.node_id,
        "hostname": &*node.services.hostname,
        "started_at": node.started.seconds(),
        "generation": node.generation(),
        "draining": node.is_draining(),
    })
}

/// The result of the last change of the configuration.
fn config(node: &Node) -> Value {
    let state = node.config.state();
    json!({
        "last_reload_successful": state.successful,
        "last_reload_at": state.at.seconds(),
        "applied_at": state.applied_at.seconds(),
        "revision": state.revision,
        "reloads": { "success": state.reloads_succeeded, "failure": state.reloads_failed },
        "source_unavailable": state.unavailable,
        "from_last_good": state.from_last_good,
        "last_good_saved_at": state.last_good_saved_at.map(UnixMillis::seconds),
        "last_good_age_seconds": node.config.last_good_age_seconds(),
        "left_out": state.incomplete.left_out.count(),
        "left_out_entities": state.incomplete.left_out.first(),
        "missing_secrets": state.incomplete.missing_secrets.count(),
        "missing_secret_references": state.incomplete.missing_secrets.first(),
        "error_count": state.problems.count(),
        "errors": state.problems.first(),
    })
}

/// Readiness: whether traffic should be sent to this node.
pub(super) fn ready(node: &Node) -> Page {
    let readiness = match node.plan() {
        _ if node.is_draining() => Readiness::Draining,
        None => Readiness::NoConfiguration,
        Some(_) if node.is_idle && node.config.state().applied_at.0 > 0 => Readiness::Ready,
        Some(plan) if plan.ir.is_empty() && !node.config.accepts_empty() => Readiness::EmptyConfiguration,
        Some(_) => Readiness::Ready,
    };
    let message = node.status_form.readiness(readiness);
    let state = node.config.state();
    match (readiness, state.unavailable, state.from_last_good) {
        (Readiness::Ready, Some(why), from_last_good) => {
            let what =
                if from_last_good { "last known good configuration" } else { "configuration that was applied last" };
            let warning = format!("{why}; the {what} is served");
            Page::json(200, &json!({ "message": message, "warning": warning }))
        }
        (Readiness::Ready, None, true) => {
            let warning = "the last known good configuration is served";
            Page::json(200, &json!({ "message": message, "warning": warning }))
        }
        (Readiness::Ready, None, false) => Page::message(200, message),
        _ => Page::message(503, message),
    }
}

pub(super) fn dns(node: &Node) -> Page {
    let names = node.names.dns.names();
    Page::json(200, &json!({ "worker": { "count": node.shared.counters.len() }, "stats": { "names": names } }))
}

/// Resident memory of the process, if the system provides it.
pub(super) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_holds_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
