//! [`Proxies`]: what a control plane sees of running proxies, and does to them.

use serde_json::Value;

/// The proxies that follow a control plane. The engine is not known here: whoever runs both implements it.
pub trait Proxies: Send + Sync + std::fmt::Debug {
    /// The id of this node.
    fn node_id(&self) -> String;

    /// Status of the node, in Kong's form of `/status`, for a query string.
    ///
    /// # Errors
    /// The query is wrong: the message for the client.
    fn status(&self, query: &str) -> Result<Value, String>;

    /// Health of the targets of an upstream, by the name of the upstream: for each `host:port` an entry
    /// `{target, health, data}`. `None` if no proxy serves the upstream.
    fn upstream_health(&self, upstream: &str) -> Option<Value>;

    /// Marks a target, or one address of it, healthy or unhealthy on all proxies.
    ///
    /// # Errors
    /// There is no such target or address: the message for the client.
    fn set_target_health(
        &self,
        upstream: &str,
        target: &str,
        address: Option<&str>,
        healthy: bool,
    ) -> Result<(), String>;

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

    fn upstream_health(&self, _upstream: &str) -> Option<Value> {
        None
    }

    fn set_target_health(&self, _: &str, _: &str, _: Option<&str>, _: bool) -> Result<(), String> {
        Err("no proxy serves this upstream".to_owned())
    }

    fn log_level(&self) -> String {
        "notice".to_owned()
    }

    fn set_log_level(&self, _: &str, _: u64) -> Result<(), String> {
        Err("there is no log to change".to_owned())
    }
}
