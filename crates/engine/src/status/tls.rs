//! [`StatusTls`]: TLS of the status listener, with the certificates of the active generation.

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_net::tls::{self, ServerSettings};
use rustls::ServerConfig;
use rustls::server::ProducesTickets;

use crate::node::Node;

/// TLS of the status listener.
#[derive(Default)]
pub(super) struct StatusTls(Mutex<Made>);

#[derive(Default)]
struct Made {
    ticketer: Option<Arc<dyn ProducesTickets>>,
    /// The settings, and the generation for which they were built.
    config: Option<(u64, Arc<ServerConfig>)>,
}

impl StatusTls {
    /// The settings for the active generation.
    pub(super) fn config(&self, node: &Node) -> Result<Arc<ServerConfig>, &'static str> {
        let plan = node.plan().ok_or("there is no configuration")?;
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, config)) = &made.config
            && *generation == plan.generation
        {
            return Ok(Arc::clone(config));
        }
        let ticketer = match &made.ticketer {
            Some(ticketer) => Arc::clone(ticketer),
            None => tls::ticketer().map_err(|_| "no randomness for session tickets")?,
        };
        made.ticketer = Some(Arc::clone(&ticketer));
        // Clients of the status listener need no certificate, regardless of the settings for clients of the proxy.
        let settings = ServerSettings {
            provider: tls::provider(&plan.node().cipher_suites).0,
            names: Arc::clone(&plan.tls.names),
            http2: false,
            alpn: true,
            client_authorities: None,
            client_required: false,
            tls13_only: plan.node().tls13_only,
            ticketer,
        };
        let config = tls::server_config(settings).map_err(|_| "its settings cannot be used")?;
        let config = Arc::clone(config.config());
        made.config = Some((plan.generation, Arc::clone(&config)));
        Ok(config)
    }
}
