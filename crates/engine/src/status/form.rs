//! [`PlainStatus`]: the default format of `/status`, used if the front end supplies none.

use cardinal_sdk::{NodeStatus, Readiness, StatusForm};
use serde_json::{Value, json};

/// Renders the fields under their own names.
pub(crate) struct PlainStatus;

impl StatusForm for PlainStatus {
    fn status(&self, status: NodeStatus, _query: &[u8]) -> Result<Value, String> {
        let NodeStatus { connections, pid, resident_bytes, node, config, configuration_hash } = status;
        Ok(json!({
            "connections": {
                "accepted": connections.accepted,
                "active": connections.active,
                "serving": connections.writing,
                "idle": connections.waiting,
            },
            "requests": connections.requests,
            "process": { "pid": pid, "resident_bytes": resident_bytes },
            "node": node,
            "config": config,
            "configuration_hash": configuration_hash,
        }))
    }

    fn readiness(&self, readiness: Readiness) -> &'static str {
        match readiness {
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
            Readiness::NoConfiguration => "no configuration",
            Readiness::EmptyConfiguration => "the configuration is empty",
        }
    }
}
