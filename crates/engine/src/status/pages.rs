//! What is answered to which path.

use std::sync::Arc;

use cardinal_http::{Method, RequestHead};
use cardinal_sdk::{NodeStatus, NodeView as _, Readiness};
use serde_json::{Value, json};

use super::digest::Digests;
use super::metrics;
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

/// Answers a request.
pub(super) async fn answer(node: &Arc<Node>, digests: &Digests, head: &RequestHead) -> Page {
    let path = head.path();
    if !matches!(path, b"/status" | b"/status/ready" | b"/status/dns" | b"/metrics") {
        return Page::message(404, "Not found");
    }
    if !matches!(head.method, Method::Get | Method::Head) {
        return Page::message(405, "Method not allowed");
    }
    match path {
        b"/status" => status(node, digests, head.query().unwrap_or_default()).await,
        b"/status/ready" => ready(node),
        b"/status/dns" => dns(node),
        _ => Page { status: 200, content_type: "text/plain; charset=UTF-8", body: metrics::text(node) },
    }
}

/// The state of the node, in the form of the front end.
async fn status(node: &Arc<Node>, digests: &Digests, query: &[u8]) -> Page {
    let configuration_hash = match node.plan() {
        Some(plan) => Some(digests.of(&plan).await.to_string()),
        None => None,
    };
    let status = NodeStatus {
        connections: node.shared.connections(),
        pid: std::process::id(),
        resident_bytes: resident_bytes(),
        node: about(node),
        config: config(node),
        configuration_hash,
    };
    match node.status_form.status(status, query) {
        Ok(status) => Page::json(200, &status),
        Err(message) => Page::message(400, &message),
    }
}

/// The program and the process.
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

/// How the last change of the configuration went.
fn config(node: &Node) -> Value {
    let facts = node.config.facts();
    json!({
        "last_reload_successful": facts.successful,
        "last_reload_at": facts.at.seconds(),
        "applied_at": facts.applied_at.seconds(),
        "reloads": { "success": facts.reloads_succeeded, "failure": facts.reloads_failed },
        "from_last_good": facts.from_last_good,
        "left_out": facts.left_out,
        "error_count": facts.problem_count,
        "errors": facts.problems,
    })
}

/// Whether traffic should be sent here.
fn ready(node: &Node) -> Page {
    let readiness = match node.plan() {
        _ if node.is_draining() => Readiness::Draining,
        None => Readiness::NoConfiguration,
        Some(plan) if plan.ir.is_empty() => Readiness::EmptyConfiguration,
        Some(_) => Readiness::Ready,
    };
    let status = if readiness == Readiness::Ready { 200 } else { 503 };
    Page::message(status, node.status_form.readiness(readiness))
}

fn dns(node: &Node) -> Page {
    let names = node.names.dns.names();
    Page::json(200, &json!({ "worker": { "count": node.shared.counters.len() }, "stats": { "names": names } }))
}

/// What the process holds in memory, where the system says.
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
