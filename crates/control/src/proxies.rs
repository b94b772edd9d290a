//! [`Proxies`]: what a control plane sees of running proxies, and does to them.

use std::net::IpAddr;

use cardinal_ir::Id;
use cardinal_sync::stream::{NodeInfo, Report, TargetHealth};
use serde_json::{Value, json};

/// A data plane that is or was connected.
#[derive(Clone, Debug)]
pub struct DataPlane {
    /// Its id.
    pub id: Id,
    /// Its address.
    pub address: IpAddr,
    /// What it says about itself.
    pub node: NodeInfo,
    /// Whether it is connected to this control plane.
    pub is_connected: bool,
    /// When it connected, in seconds since 1970.
    pub connected_at: u64,
    /// When its last message came, in seconds since 1970.
    pub last_seen: u64,
    /// Generations that it lags behind.
    pub lag: u64,
    /// The hash of the configuration that it serves, 32 hexadecimal digits; `None` if it is not known any more.
    pub hash: Option<String>,
    /// What it reported last.
    pub report: Report,
}

impl DataPlane {
    /// In Kong's form (`/clustering/data-planes`), with what Kong does not know after it.
    pub fn to_json(&self) -> Value {
        let Self { node, report, .. } = self;
        let is_normal = self.is_connected && report.refusal.is_none() && report.served > 0;
        let rejections = report.rejections.iter().map(|rejection| {
            json!({ "type": rejection.type_name, "id": rejection.name, "reason": rejection.reason,
                "inexpressible": rejection.is_inexpressible })
        });
        json!({
            "id": self.id.to_string(),
            "hostname": node.hostname,
            "ip": self.address.to_string(),
            "version": node.version,
            "last_seen": self.last_seen,
            "config_hash": self.hash.clone().unwrap_or_else(|| "0".repeat(32)),
            "sync_status": if is_normal { "normal" } else { "unknown" },
            "labels": node.labels,
            "rpc_capabilities": [],
            "connected": self.is_connected,
            "connected_at": self.connected_at,
            "generation": report.served,
            "lag": self.lag,
            "rejected": report.rejected,
            "rejections": rejections.collect::<Value>(),
            "refusal": report.refusal,
        })
    }
}

/// The proxies that follow a control plane. The engine is not known here: whoever runs both implements it.
pub trait Proxies: Send + Sync + std::fmt::Debug {
    /// The id of this node.
    fn node_id(&self) -> String;

    /// Status of the node, in Kong's form of `/status`, for a query string.
    ///
    /// # Errors
    /// The query is wrong: the message for the client.
    fn status(&self, query: &str) -> Result<Value, String>;

    /// Metrics of the process in Prometheus exposition format.
    fn metrics(&self) -> String;

    /// Health of the targets of an upstream, by the id of the upstream: for each `host:port` an entry
    /// `{target, health, data}`. `None` if no proxy serves the upstream.
    fn upstream_health(&self, upstream: &str) -> Option<Value>;

    /// Marks a target, or one address of it, healthy or unhealthy on this node and its data planes.
    ///
    /// # Errors
    /// There is no such target or address: the message for the client.
    fn set_target_health(&self, said: &TargetHealth) -> Result<(), String>;

    /// The data planes that follow this control plane; `None` if none can.
    fn data_planes(&self) -> Option<Vec<DataPlane>> {
        None
    }

    /// The minimum log level, by Kong's names.
    fn log_level(&self) -> String;

    /// Sets it, for this many seconds; 0 is for ever.
    ///
    /// # Errors
    /// It cannot be changed: the message for the client.
    fn set_log_level(&self, level: &str, seconds: u64) -> Result<(), String>;
}

/// A control plane without proxies.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProxies;

impl Proxies for NoProxies {
    fn node_id(&self) -> String {
        uuid::Uuid::nil().to_string()
    }

    fn status(&self, _query: &str) -> Result<Value, String> {
        Ok(serde_json::json!({}))
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn upstream_health(&self, _upstream: &str) -> Option<Value> {
        None
    }

    fn set_target_health(&self, _: &TargetHealth) -> Result<(), String> {
        Err("no proxy serves this upstream".to_owned())
    }

    fn log_level(&self) -> String {
        "notice".to_owned()
    }

    fn set_log_level(&self, _: &str, _: u64) -> Result<(), String> {
        Err("there is no log to change".to_owned())
    }
}
