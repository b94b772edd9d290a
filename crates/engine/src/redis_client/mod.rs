//! [`RedisClient`]: the node's client for Redis servers, shared by all plugins.
//!
//! The calls of many requests share one connection to a server, on the control runtime. `server` keeps it: makes it, gives
//! it up, and makes it anew; `connection` is one connection and what is said on it.

mod connection;
mod server;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cardinal_net::dns::Dns;
use cardinal_sdk::redis::{Redis, RedisCall, RedisError, RedisReplies, RedisServer, RedisSettings};
use tokio::runtime::Handle;

use crate::connector::{Connector, Trust};
use server::Server;

/// Limits on what the client holds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Calls under way at once, to all servers; more are refused.
    calls_max: usize,
    /// Bytes that may arrive on a connection without completing a call.
    reply_bytes_max: u64,
    /// A connection that was not used for so long is closed, within the same time again.
    idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_max: 16_384, reply_bytes_max: 64 * 1024 * 1024, idle_timeout: Duration::from_secs(60) }
    }
}

/// The node's client for Redis servers.
pub(crate) struct RedisClient {
    shared: Arc<Shared>,
    /// Servers that somebody holds.
    servers: Mutex<HashMap<RedisSettings, Weak<Server>>>,
}

/// What all servers share.
struct Shared {
    connector: Connector,
    runtime: Handle,
    calls: AtomicUsize,
    limits: Limits,
}

impl RedisClient {
    /// A client that verifies servers by these authorities. Connections live on the resolver's runtime.
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

/// Who may send calls to a server.
struct Holder(Arc<Server>);

impl RedisServer for Holder {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn call(&self, call: RedisCall) -> RedisReplies {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            // The connection's socket and timers belong to the control runtime, whatever thread asks.
            let runtime = server.runtime().clone();
            let running = runtime.spawn(async move { server.run(&call).await });
            running.await.unwrap_or_else(|error| Err(RedisError::Broken(error.to_string())))
        })
    }
}

impl Shared {
    /// A place for a call.
    fn enter(&self) -> Result<Place<'_>, RedisError> {
        let place = Place(&self.calls);
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.limits.calls_max {
            return Err(RedisError::Local("too many calls to Redis servers at once".to_owned()));
        }
        Ok(place)
    }
}

/// A call under way.
struct Place<'c>(&'c AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
