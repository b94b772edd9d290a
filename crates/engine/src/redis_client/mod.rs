//! [`RedisClient`]: the node's client for Redis servers, shared by all plugins.
//!
//! Calls of all requests are multiplexed over one connection per server on the control runtime. `server` opens, closes
//! and reconnects it; `connection` is a single connection and its protocol state.

mod connection;
mod server;
mod shared;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cardinal_net::dns::Dns;
use cardinal_sdk::redis::{Redis, RedisCall, RedisError, RedisReplies, RedisServer, RedisSettings};

use crate::connector::{Connector, Trust};
use server::Server;
use shared::{Limits, Shared};

/// The node's client for Redis servers.
pub(crate) struct RedisClient {
    shared: Arc<Shared>,
    /// Servers that are in use.
    servers: Mutex<HashMap<RedisSettings, Weak<Server>>>,
}

impl RedisClient {
    /// Creates a client that verifies servers by these authorities. Connections run on the resolver's runtime.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        Self::with_limits(dns, trust, Limits::default())
    }

    fn with_limits(dns: Arc<Dns>, trust: Arc<Trust>, limits: Limits) -> Self {
        let runtime = dns.runtime().clone();
        let connector = Connector::new(dns, trust, &[]);
        let shared = Shared { connector, runtime, calls: AtomicUsize::new(0), limits };
        Self { shared: Arc::new(shared), servers: Mutex::default() }
    }
}

impl Redis for RedisClient {
    fn server(&self, settings: &RedisSettings) -> Arc<dyn RedisServer> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, server| server.strong_count() > 0);
        if let Some(server) = servers.get(settings).and_then(Weak::upgrade) {
            return Arc::new(Holder(server));
        }
        let server = Arc::new(Server::new(Arc::clone(&self.shared), settings.clone()));
        servers.insert(settings.clone(), Arc::downgrade(&server));
        Arc::new(Holder(server))
    }
}

/// A handle for sending calls to a server.
struct Holder(Arc<Server>);

impl RedisServer for Holder {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn call(&self, call: RedisCall) -> RedisReplies {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            // The connection's socket and timers belong to the control runtime, regardless of the calling thread.
            let runtime = server.runtime().clone();
            let running = runtime.spawn(async move { server.run(&call).await });
            running.await.unwrap_or_else(|error| Err(RedisError::Broken(error.to_string())))
        })
    }
}

#[cfg(test)]
mod tests;
