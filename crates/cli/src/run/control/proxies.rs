//! [`EngineProxies`]: the node of this process, as the Admin API sees it.

use std::sync::Arc;

use cardinal_control::{DataPlane, Proxies};
use cardinal_engine::{NodeHandle, SetHealthError};
use cardinal_stream::{ProxyInfo, StreamServer};
use cardinal_sync::stream::TargetHealth;
use serde_json::{Map, Value, json};

use crate::run::log_level::LogLevel;

/// The node of this process.
#[derive(Debug)]
pub(super) struct EngineProxies {
    node: NodeHandle,
    /// It serves traffic.
    serves: bool,
    /// What data planes are connected to, if they may be.
    server: Option<StreamServer>,
    log_level: Arc<LogLevel>,
}

impl EngineProxies {
    pub(super) fn new(node: NodeHandle, serves: bool, server: Option<StreamServer>, log_level: Arc<LogLevel>) -> Self {
        Self { node, serves, server, log_level }
    }
}

/// Marks a target of the node.
pub(in crate::run) fn set_health(node: &NodeHandle, said: &TargetHealth) -> Result<(), SetHealthError> {
    let TargetHealth { upstream, target, address, is_healthy } = said;
    let upstream = upstream.parse().map_err(|_| SetHealthError::NoUpstream)?;
    node.set_target_health(upstream, target, *address, *is_healthy)
}

impl Proxies for EngineProxies {
    fn node_id(&self) -> String {
        self.node.id().to_string()
    }

    fn status(&self, query: &str) -> Result<Value, String> {
        self.node.status(query.as_bytes())
    }

    fn metrics(&self) -> String {
        self.node.metrics()
    }

    fn upstream_health(&self, upstream: &str) -> Option<Value> {
        let status = self.node.upstream(upstream.parse().ok()?)?;
        let mut targets = Map::new();
        let mut addresses_of_all = Vec::new();
        for member in &status.members {
            let addresses: Vec<Value> = member
                .addresses
                .iter()
                .map(|a| {
                    json!({ "ip": a.address.ip().to_string(), "port": a.address.port(), "health": a.state.as_str(),
                        "weight": a.weight })
                })
                .collect();
            addresses_of_all.extend(addresses.iter().cloned());
            let weight = json!({ "total": member.weight.total, "available": member.weight.available,
                "unavailable": member.weight.unavailable });
            let data = json!({ "host": member.host, "port": member.port, "dns": member.dns,
                "nodeWeight": member.node_weight, "weight": weight, "addresses": addresses });
            let shown = json!({ "health": member.state.as_str(), "data": data });
            targets.insert(format!("{}:{}", member.host, member.port), shown);
        }
        let weight = json!({ "total": status.weight.total, "available": status.weight.available,
            "unavailable": status.weight.unavailable });
        let balancer = json!({
            "health": status.state.as_str(),
            "balancer_health": if status.serves { "HEALTHY" } else { "UNHEALTHY" },
            "details": { "healthy": status.serves, "weight": weight, "hosts": addresses_of_all },
        });
        Some(json!({ "targets": targets, "balancer": balancer }))
    }

    fn set_target_health(&self, said: &TargetHealth) -> Result<(), String> {
        if self.serves {
            set_health(&self.node, said).map_err(|error| error.to_string())?;
        }
        if let Some(server) = &self.server {
            server.set_health(said.clone());
        }
        Ok(())
    }

    fn data_planes(&self) -> Option<Vec<DataPlane>> {
        let server = self.server.as_ref()?;
        let newest = server.newest();
        let shown = |proxy: ProxyInfo| DataPlane {
            id: proxy.node.id,
            address: proxy.address.ip(),
            lag: proxy.lag(newest),
            hash: server.hash_of(proxy.report.served),
            is_connected: proxy.is_connected,
            last_seen: proxy.last_seen.seconds(),
            connected_at: proxy.connected_at.seconds(),
            node: proxy.node,
            report: proxy.report,
        };
        Some(server.proxies().into_iter().map(shown).collect())
    }

    fn log_level(&self) -> String {
        self.log_level.get()
    }

    fn set_log_level(&self, level: &str, seconds: u64) -> Result<(), String> {
        self.log_level.set(level, seconds)
    }
}
