//! Kong's form of `/status` and `/status/ready`.

use cardinal_http::query;
use cardinal_sdk::{NodeStatus, Readiness, StatusForm};
use serde_json::{Value, json};

/// Query arguments that are looked at.
const ARGUMENTS_MAX: usize = 100;
/// Digits after the point that a figure may have.
const SCALE_MAX: usize = 20;

/// Kong's `/status` without a database. There are no Lua machines and no shared dictionaries, so these lists are empty;
/// the memory of the process, the node and its configuration are beside them.
#[derive(Clone, Copy, Debug)]
pub struct KongStatus;

impl StatusForm for KongStatus {
    fn status(&self, status: NodeStatus, query: &[u8]) -> Result<Value, String> {
        let figure = Figure::of(query)?;
        let NodeStatus { connections: counts, pid, resident_bytes, node, config, configuration_hash } = status;
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
            "node": node,
            "config": config,
        });
        if let (Some(bytes), Some(memory)) = (resident_bytes, status["memory"].as_object_mut()) {
            memory.insert("process".to_owned(), json!({ "pid": pid, "resident": figure.show(bytes) }));
        }
        if let (Some(hash), Some(status)) = (configuration_hash, status.as_object_mut()) {
            status.insert("configuration_hash".to_owned(), hash.into());
        }
        Ok(status)
    }

    fn readiness(&self, readiness: Readiness) -> &'static str {
        match readiness {
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
            Readiness::NoConfiguration => "no configuration available (configuration hash is not initialized)",
            Readiness::EmptyConfiguration => "no configuration available (empty configuration present)",
        }
    }
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

#[cfg(test)]
mod tests {
    use cardinal_sdk::ConnectionCounts;

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
    fn the_status_is_kongs() {
        let connections =
            ConnectionCounts { accepted: 2, handled: 2, active: 2, waiting: 1, writing: 1, requests: 1, reading: 0 };
        let status = NodeStatus {
            connections,
            pid: 7,
            resident_bytes: Some(5),
            node: json!({"id": "x"}),
            config: json!({"left_out": 0}),
            configuration_hash: Some("0".repeat(32)),
        };
        let shown = KongStatus.status(status.clone(), b"unit=b").unwrap().to_string();
        let expected = r#"{"memory":{"workers_lua_vms":[],"lua_shared_dicts":{},"process":{"pid":7,"resident":5}},"server":{"connections_accepted":2,"connections_active":2,"connections_handled":2,"connections_reading":0,"connections_waiting":1,"connections_writing":1,"total_requests":1},"node":{"id":"x"},"config":{"left_out":0},"configuration_hash":"00000000000000000000000000000000"}"#;
        assert_eq!(shown, expected);
        assert!(KongStatus.status(status, b"unit=x").unwrap_err().starts_with("invalid unit"));
    }
}
