//! An offline node that opens no connections, for validating and explaining configurations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cardinal_base::{Budget, SystemClock};
use cardinal_ir::{Diagnostic, NodeSettings};
use cardinal_sdk::network::{ConnectTo, Datagrams, Network, NetworkFuture, ResolvedAddress, ServerConnection};
use cardinal_sdk::redis::{Redis, RedisCall, RedisReplies, RedisReply, RedisServer, RedisSettings};
use cardinal_sdk::{
    CallError, ConnectionCounts, HttpCall, HttpCaller, HttpReply, NodeView, PluginDef, Services, Shared, TargetHealth,
};

use crate::certificate_reader::CertificateReader;
use crate::configuration::Configuration;
use crate::outcome::EngineError;
use crate::plan::{PlanCx, Registry, validate};

impl Configuration {
    /// Lists the entities that an engine would skip, with the reasons. Nothing is served, and no connections are
    /// opened. Must be called within a runtime.
    ///
    /// # Errors
    /// If the configuration cannot be served at all.
    pub fn validate(&self, plugins: &[&'static PluginDef]) -> Result<Vec<Diagnostic>, EngineError> {
        let services = offline_services(&self.node);
        let registry =
            Registry::new(Arc::clone(&services.clock)).map_err(|error| EngineError::Setup(error.to_string()))?;
        let cx = PlanCx { plugins, services, registry: &registry, previous: None };
        validate(self, &cx).map_err(EngineError::Refused)
    }
}

/// A node that opens no connections.
struct Alone;

impl HttpCaller for Alone {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        Box::pin(async move { Err(CallError::Transport(format!("{} is not called while explaining", call.url))) })
    }
}

impl Network for Alone {
    fn connect(&self, to: ConnectTo) -> NetworkFuture<'static, ServerConnection> {
        Box::pin(async move { Err(offline(&to.host)) })
    }

    fn datagrams(&self, host: &str, _port: u16) -> NetworkFuture<'static, Box<dyn Datagrams>> {
        let error = offline(host);
        Box::pin(async move { Err(error) })
    }

    fn lookup(&self, host: &str, _port: u16) -> NetworkFuture<'static, Vec<ResolvedAddress>> {
        let error = offline(host);
        Box::pin(async move { Err(error) })
    }
}

fn offline(host: &str) -> CallError {
    CallError::Transport(format!("{host} is not contacted while explaining"))
}

/// Fake Redis: each command gets the reply of an empty database.
impl Redis for Alone {
    fn server(&self, _settings: &RedisSettings) -> Arc<dyn RedisServer> {
        Arc::new(Self)
    }
}

impl RedisServer for Alone {
    fn name(&self) -> &str {
        "no server"
    }

    fn call(&self, call: RedisCall) -> RedisReplies {
        Box::pin(async move { Ok(vec![RedisReply::Nil; call.commands().len()]) })
    }
}

impl NodeView for Alone {
    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }

    fn targets(&self) -> Vec<TargetHealth> {
        Vec::new()
    }
}

/// The services of a node that connects to no server. Must be called within a runtime.
pub(crate) fn offline_services(settings: &NodeSettings) -> Services {
    // The TLS provider is process-wide; for a second caller it is already installed.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Services {
        clock: Arc::new(SystemClock::new()),
        shared: Arc::new(Shared::default()),
        http: Arc::new(Alone),
        redis: Arc::new(Alone),
        network: Arc::new(Alone),
        certificates: Arc::new(CertificateReader),
        runtime: tokio::runtime::Handle::current(),
        memory: Arc::new(Budget::new(usize::MAX)),
        node: Arc::new(Alone),
        node_id: settings.id,
        hostname: "explain".into(),
        redacted_headers: settings.redacted_headers.clone().into(),
        tenants: Arc::default(),
    }
}
