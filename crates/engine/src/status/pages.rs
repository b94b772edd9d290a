//! The pages of the status listener.

use cardinal_http::query;
use cardinal_sdk::NodeView as _;
use serde_json::{Value, json};

use super::upstreams;
use crate::node::Node;

const JSON: &str = "application/json; charset=utf-8";
/// Query arguments that are looked at.
const ARGUMENTS_MAX: usize = 100;
/// Digits after the point that a figure may have.
const SCALE_MAX: usize = 20;

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

/// Kong's `/status` without a database. There are no Lua machines and no shared dictionaries, so these lists are
/// empty; what the process holds is told beside them.
pub(super) async fn status(node: &Node, query: &[u8]) -> Page {
    let figure = match Figure::of(query) {
        Ok(figure) => figure,
        Err(message) => return Page::message(400, &message),
    };
    let counts = node.shared.connections();
    let mut status = json!({
        "memory": { "workers_lua_vms": [], "lua_shared_dicts": {} },
        "server": {
            "connections_accepted": counts.accepted,
            "connections_active": counts.active,
            "connections_handled": counts.handled,
            "connections_reading": counts.reading,
            "connections_waiting": counts.waiting,
            "connections_writing": counts.writing,
            "total_requests": counts.requests,
        },
    });
    if let (Some(bytes), Some(memory)) = (resident_bytes(), status.get_mut("memory").and_then(Value::as_object_mut)) {
        memory.insert("process".to_owned(), json!({ "pid": std::process::id(), "resident": figure.show(bytes) }));
    }
    if let Some(status) = status.as_object_mut() {
        status.insert("node".to_owned(), about(node));
        status.insert("config".to_owned(), config(node));
    }
    if let (Some(plan), Some(status)) = (node.plan(), status.as_object_mut()) {
        status.insert("configuration_hash".to_owned(), node.digests.of(&plan).await.to_string().into());
    }
    Page::json(200, &status)
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

/// Whether traffic should be sent here. The texts are Kong's.
pub(super) fn ready(node: &Node) -> Page {
    if node.is_draining() {
        return Page::message(503, "draining");
    }
    match node.plan() {
        None => Page::message(503, "no configuration available (configuration hash is not initialized)"),
        Some(plan) if plan.ir.is_empty() => {
            Page::message(503, "no configuration available (empty configuration present)")
        }
        Some(_) => Page::message(200, "ready"),
    }
}

pub(super) fn dns(node: &Node) -> Page {
    let names = node.names.dns.names();
    Page::json(200, &json!({ "worker": { "count": node.shared.counters.len() }, "stats": { "names": names } }))
}

/// How bytes are shown: Kong's `?unit=` and `?scale=`.
#[derive(Debug, PartialEq)]
struct Figure {
    unit: char,
    scale: usize,
}

impl Figure {
    fn of(query: &[u8]) -> Result<Self, String> {
        let mut figure = Self { unit: 'm', scale: 2 };
        let mut scale = None;
        for (name, value) in query::arguments(query, ARGUMENTS_MAX) {
            let value = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
            match name.as_slice() {
                b"unit" => {
                    figure.unit = match value.to_ascii_lowercase().as_str() {
                        "" | "b" => 'b',
                        "k" => 'k',
                        "m" => 'm',
                        "g" => 'g',
                        _ => return Err(format!("invalid unit '{value}' (expected 'k/K', 'm/M', or 'g/G')")),
                    };
                }
                // What is no number counts for nothing, as in Kong.
                b"scale" => scale = value.parse::<f64>().ok(),
                _ => {}
            }
        }
        match scale {
            Some(scale) if scale < 0.0 && figure.unit != 'b' => Err("scale must be equal or greater than 0".to_owned()),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
            Some(scale) => Ok(Self { scale: scale.clamp(0.0, SCALE_MAX as f64) as usize, ..figure }),
            None => Ok(figure),
        }
    }

    fn show(&self, bytes: u64) -> Value {
        let (shift, name) = match self.unit {
            'k' => (10, "KiB"),
            'g' => (30, "GiB"),
            'm' => (20, "MiB"),
            _ => return bytes.into(),
        };
        #[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
        let number = bytes as f64 / f64::from(1_u32 << shift);
        format!("{number:.*} {name}", self.scale).into()
    }
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

    fn check(query: &str, bytes: u64, expect: impl Into<Value>) {
        let figure = Figure::of(query.as_bytes()).unwrap();
        assert_eq!(figure.show(bytes), expect.into(), "{query}");
    }

    #[test]
    fn figures_have_units() {
        check("", 5_497_558, "5.24 MiB");
        check("unit=b", 5_497_558, 5_497_558);
        check("unit=B&scale=-1", 7, 7);
        check("unit=k", 1_536, "1.50 KiB");
        check("unit=G&scale=3", 5 << 30, "5.000 GiB");
        check("unit=K&scale=0", 2_048, "2 KiB");
        check("unit=m&scale=many", 1 << 20, "1.00 MiB");
        check("scale=1000", 1 << 20, "1.00000000000000000000 MiB");
        assert!(Figure::of(b"unit=x").unwrap_err().starts_with("invalid unit 'x'"));
        assert!(Figure::of(b"unit=k&scale=-1").unwrap_err().starts_with("scale must be"));
    }

    #[test]
    fn the_process_holds_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
