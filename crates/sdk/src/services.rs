//! [`Services`]: the services of the node for filters, independent of generations.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cardinal_base::{Budget, Clock};
use cardinal_http::HeaderList;
use cardinal_ir::Id;

use crate::certificate::Certificates;
use crate::network::Network;
use crate::redis::Redis;

/// The services of the node for filters. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// State that persists across generations: counters, caches.
    pub shared: Arc<Shared>,
    /// HTTP calls to other servers.
    pub http: Arc<dyn HttpCaller>,
    /// The Redis client.
    pub redis: Arc<dyn Redis>,
    /// Connections and datagrams to other servers, and the resolver.
    pub network: Arc<dyn Network>,
    /// Reads certificates for [`Filter::on_certificate`](crate::Filter::on_certificate).
    pub certificates: Arc<dyn Certificates>,
    /// The control runtime: for tasks and connections that do not belong to a request. It does not use worker threads.
    pub runtime: tokio::runtime::Handle,
    /// Memory budget for buffered bodies and queued log entries: see [`Exchange::held`](crate::Exchange::held).
    pub memory: Arc<Budget>,
    /// The node itself, for metrics.
    pub node: Arc<dyn NodeView>,
    /// The node's id.
    pub node_id: Id,
    /// Host name of the machine.
    pub hostname: Arc<str>,
    /// Request header names (lower-case) whose values are not logged.
    pub redacted_headers: Arc<[Box<str>]>,
    /// Names of the tenants of the generation that a request is served by; empty while filters are built.
    pub tenants: Arc<Tenants>,
}

/// Names of tenants by their ids.
pub type Tenants = BTreeMap<Id, Box<str>>;

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// Writes metrics in Prometheus exposition format, on demand.
pub type Collector = Arc<dyn Fn(&mut String) + Send + Sync>;

/// State that persists across generations, by type and key. Looked up when filters are built, not on the request path.
#[derive(Default)]
pub struct Shared {
    entries: Mutex<HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>>,
    collectors: Mutex<HashMap<String, Collector>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// The state with this type and key, created if absent. It stays as long as the node runs, so keys must be limited
    /// to what plugins name, and must not depend on requests.
    pub fn get_or_insert<T: Any + Send + Sync>(&self, key: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry((TypeId::of::<T>(), key.to_owned())).or_insert_with(|| Arc::new(make()));
        Arc::clone(entry).downcast().unwrap_or_else(|_| unreachable!("the type is part of the key"))
    }

    /// Adds text to `/metrics`; replaces a collector with the same name.
    pub fn set_collector(&self, name: &str, collector: Collector) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), collector);
    }

    /// The text of all collectors, ordered by name.
    pub fn collect(&self) -> String {
        let collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> =
            collectors.iter().map(|(name, collector)| (name.clone(), Arc::clone(collector))).collect();
        drop(collectors);
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut text = String::new();
        for (_, collector) in sorted {
            collector(&mut text);
        }
        text
    }
}

/// An HTTP call of the node itself.
#[derive(Clone, Debug, Default)]
pub struct HttpCall {
    /// Method.
    pub method: String,
    /// `http://` or `https://` URL.
    pub url: String,
    /// Header fields; `Host` and framing fields are added.
    pub headers: HeaderList,
    /// Body.
    pub body: Bytes,
    /// Timeout of the whole call.
    pub timeout: Duration,
    /// How long a connection may be kept for the next call.
    pub keepalive: Duration,
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// Maximum size of the response body, bytes; a longer body is an error.
    pub body_max: u64,
}

/// The response to a call.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderList,
    /// Body.
    pub body: Bytes,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL cannot be called.
    #[error("cannot call {url}: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// The call timed out.
    #[error("timeout")]
    Timeout,
    /// The response is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The node has run out of descriptors, memory or ports; the server is not the cause.
    #[error("{0}")]
    Local(String),
    /// Connecting, TLS, or the exchange failed.
    #[error("{0}")]
    Transport(String),
}

/// A gRPC call with one message in each direction.
#[derive(Clone, Debug, Default)]
pub struct GrpcCall {
    /// `http://` or `https://` URL whose path is the method: `/package.Service/Method`.
    pub url: String,
    /// Metadata; protocol fields are left out.
    pub metadata: HeaderList,
    /// The serialized message, without its prefix.
    pub message: Bytes,
    /// The message is compressed with gzip.
    pub gzip: bool,
    /// Timeout of the whole call; also sent to the server.
    pub timeout: Duration,
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// Maximum size of the response message, bytes; a longer message is an error.
    pub message_max: usize,
}

/// The response to a gRPC call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcReply {
    /// `grpc-status`, or the equivalent of the HTTP status if the response has none.
    pub status: u32,
    /// `grpc-message`, decoded.
    pub reason: String,
    /// `grpc-status-details-bin`, decoded: a `google.rpc.Status`.
    pub details: Bytes,
    /// The message; empty if there is none.
    pub message: Bytes,
}

/// Makes HTTP calls, on the control runtime, with kept-alive connections.
pub trait HttpCaller: Send + Sync {
    /// Makes a call. Dropping the future cancels it.
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>>;

    /// Makes a gRPC call, over HTTP/2. Dropping the future cancels it. The default implementation fails.
    fn grpc(&self, call: GrpcCall) -> Pin<Box<dyn Future<Output = Result<GrpcReply, CallError>> + Send>> {
        Box::pin(async move { Err(CallError::Url { url: call.url, reason: "gRPC is not available here" }) })
    }
}

/// The state of the node, for metrics.
pub trait NodeView: Send + Sync {
    /// Client connections.
    fn connections(&self) -> ConnectionCounts;
    /// Health of all endpoints.
    fn targets(&self) -> Vec<TargetHealth>;
}

/// Client connections, with the names used by nginx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Accepted since start.
    pub accepted: u64,
    /// Handled since start.
    pub handled: u64,
    /// Requests since start.
    pub requests: u64,
    /// Open now.
    pub active: u64,
    /// Reading a request.
    pub reading: u64,
    /// Serving a request.
    pub writing: u64,
    /// Idle.
    pub waiting: u64,
}

/// Health of one address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// Name of the group.
    pub upstream: Box<str>,
    /// `host:port` as configured.
    pub target: Box<str>,
    /// Resolved address; empty if the name does not resolve.
    pub address: Box<str>,
    /// `healthy`, `unhealthy`, `healthchecks_off`, `dns_error`.
    pub state: &'static str,
}
