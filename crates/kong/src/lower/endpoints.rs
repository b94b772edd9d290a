//! Upstreams and targets, to groups of endpoints.

use std::net::IpAddr;

use cardinal_ir::{
    Active, Algorithm, Cluster, Code, Counts, Document, Endpoint, HashInput, HealthChecks, Host, Origin, Passive,
    ProbeKind,
};
use cardinal_schema::typedefs::normalize_host;
use serde_json::Value;

use super::{Lowering, identity::known_certificate};
use crate::declarative::Entity;

/// The port of a target that names none.
const TARGET_PORT: u16 = 8000;

impl Lowering<'_> {
    pub(super) fn upstreams(&mut self) {
        self.snapshot.of("upstreams").for_each(|entity| self.upstream(&entity));
    }

    pub(super) fn targets(&mut self) {
        self.each("targets", Self::target);
    }

    pub(super) fn upstream(&mut self, entity: &Entity) {
        if known_certificate(self, "upstreams", entity).is_ok() {
            let mut group =
                endpoints(entity, self.memory.origins.origin("upstreams", entity), self.memory.no_document.clone());
            group.document = self.memory.documents.of("upstreams", entity, &group);
            self.ir.clusters.insert(entity.id, group);
        }
    }

    pub(super) fn target(&mut self, entity: &Entity) {
        let Some(upstream) = entity.reference("upstream").filter(|id| self.ir.clusters.contains(id)) else {
            self.refuse("targets", entity, Code::Reference, "upstream", "its upstream cannot be used");
            return;
        };
        let Ok(host) = normalize_host(entity.text("target").unwrap_or_default()) else {
            self.refuse("targets", entity, Code::Schema, "target", "is not a host and port");
            return;
        };
        let endpoint = Endpoint {
            origin: self.memory.origins.origin("targets", entity),
            cluster: upstream,
            host: Host { host: canonical(&host.host), port: host.port.unwrap_or(TARGET_PORT) },
            weight: entity.int("weight").and_then(|n| u32::try_from(n).ok()).unwrap_or(100),
            // Targets for failover are used while no other is healthy.
            priority: u32::from(entity.flag("failover")),
            ..Endpoint::default()
        };
        self.ir.endpoints.insert(entity.id, endpoint);
    }
}

/// An address in its shortest text, a name in lower case.
pub(super) fn canonical(host: &str) -> Box<str> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_string().into(),
        Err(_) => bare.to_ascii_lowercase().into(),
    }
}

fn endpoints(entity: &Entity, origin: Origin, document: Document) -> Cluster {
    let health = entity.get("healthchecks").unwrap_or(&Value::Null);
    let cookie_path: Box<str> = entity.text("hash_on_cookie_path").unwrap_or("/").into();
    let input = |mode: &str, prefix: &str| {
        let name = |suffix: &str| -> Box<str> { entity.text(&format!("{prefix}_{suffix}")).unwrap_or_default().into() };
        match entity.text(mode).unwrap_or("none") {
            "consumer" => HashInput::Principal,
            "ip" => HashInput::Ip,
            "header" => HashInput::Header(name("header").to_ascii_lowercase().into()),
            // A fallback cookie has the name of the first one; Kong has no other field for it.
            "cookie" => HashInput::Cookie {
                name: entity.text("hash_on_cookie").unwrap_or_default().into(),
                path: cookie_path.clone(),
            },
            "path" => HashInput::Path,
            "query_arg" => HashInput::Query(name("query_arg")),
            "uri_capture" => HashInput::Capture(name("uri_capture")),
            _ => HashInput::None,
        }
    };
    Cluster {
        origin,
        algorithm: match entity.text("algorithm").unwrap_or_default() {
            "consistent-hashing" => Algorithm::ConsistentHashing,
            "least-connections" => Algorithm::LeastConnections,
            "latency" => Algorithm::Latency,
            "sticky-sessions" => Algorithm::Sticky {
                cookie: entity.text("sticky_sessions_cookie").unwrap_or_default().into(),
                path: entity.text("sticky_sessions_cookie_path").unwrap_or("/").into(),
            },
            _ => Algorithm::RoundRobin,
        },
        slots: entity.int("slots").and_then(|n| u32::try_from(n).ok()).unwrap_or(10_000),
        hash_on: input("hash_on", "hash_on"),
        hash_fallback: input("hash_fallback", "hash_fallback"),
        health: HealthChecks {
            active: active(&health["active"]),
            passive: Passive { kind: probe(&health["passive"]), counts: counts(&health["passive"]) },
            threshold_percent: health["threshold"].as_f64().unwrap_or(0.0),
        },
        host_header: entity.text("host_header").map(Into::into),
        client_certificate: entity.reference("client_certificate"),
        use_srv_name: entity.flag("use_srv_name"),
        document,
        ..Cluster::default()
    }
}

fn active(checks: &Value) -> Active {
    let text = |name: &str| checks[name].as_str();
    let mut headers = Vec::new();
    for (name, values) in checks["headers"].as_object().into_iter().flatten() {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        headers.extend(values.map(|v| (name.as_str().into(), v.into())));
    }
    Active {
        kind: probe(checks),
        timeout_ms: millis(&checks["timeout"]),
        concurrency: checks["concurrency"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(10),
        path: text("http_path").unwrap_or("/").into(),
        headers,
        sni: text("https_sni").map(Into::into),
        verify: checks["https_verify_certificate"].as_bool().unwrap_or(true),
        healthy_interval_ms: millis(&checks["healthy"]["interval"]),
        unhealthy_interval_ms: millis(&checks["unhealthy"]["interval"]),
        counts: counts(checks),
    }
}

/// Seconds, perhaps with fractions.
fn millis(seconds: &Value) -> u64 {
    (seconds.as_f64().unwrap_or(0.0).max(0.0) * 1000.0).round() as u64
}

fn probe(checks: &Value) -> ProbeKind {
    match checks["type"].as_str().unwrap_or_default() {
        "tcp" => ProbeKind::Tcp,
        "https" => ProbeKind::Https,
        "grpc" => ProbeKind::Grpc,
        "grpcs" => ProbeKind::Grpcs,
        _ => ProbeKind::Http,
    }
}

fn counts(checks: &Value) -> Counts {
    let (healthy, unhealthy) = (&checks["healthy"], &checks["unhealthy"]);
    let statuses = |list: &Value| -> Vec<u16> {
        list.as_array().into_iter().flatten().filter_map(|v| v.as_u64().and_then(|n| u16::try_from(n).ok())).collect()
    };
    let count = |value: &Value| value.as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    Counts {
        healthy_statuses: statuses(&healthy["http_statuses"]),
        successes: count(&healthy["successes"]),
        unhealthy_statuses: statuses(&unhealthy["http_statuses"]),
        tcp_failures: count(&unhealthy["tcp_failures"]),
        timeouts: count(&unhealthy["timeouts"]),
        http_failures: count(&unhealthy["http_failures"]),
    }
}
