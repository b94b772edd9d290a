//! [`Services`]: what the node offers to filters, across generations.

use std::any::{Any, TypeId};
use std::collections::HashMap;
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

/// What the node offers to filters. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// State that outlives generations: counters, caches.
    pub shared: Arc<Shared>,
    /// HTTP calls to other servers.
    pub http: Arc<dyn HttpCaller>,
    /// Commands to Redis servers.
    pub redis: Arc<dyn Redis>,
    /// Connections and datagrams to other servers, and the resolver.
    pub network: Arc<dyn Network>,
    /// Reads certificates for [`Filter::on_certificate`](crate::Filter::on_certificate).
    pub certificates: Arc<dyn Certificates>,
    /// The control runtime: for tasks and connections that are not a request's. Never a worker's thread.
    pub runtime: tokio::runtime::Handle,
    /// Memory for bodies that are held, and for log entries that wait: see [`Exchange::held`](crate::Exchange::held).
    pub memory: Arc<Budget>,
    /// The node itself, for metrics.
    pub node: Arc<dyn NodeView>,
    /// The node's id.
    pub node_id: Id,
    /// Host name of the machine.
    pub hostname: Arc<str>,
    /// Request header names (lower-case) whose values logs must not show.
    pub redacted_headers: Arc<[Box<str>]>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// Text of metrics in Prometheus exposition format, written when somebody asks.
pub type Collector = Arc<dyn Fn(&mut String) + Send + Sync>;

/// State that outlives generations, by type and key. Looked up when filters are built, not on the request path.
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
    /// The state of this type and key, made when absent. It stays as long as the node runs, so keys must be bounded
    /// by what plugins name, never by requests.
    pub fn get_or_insert<T: Any + Send + Sync>(&self, key: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry((TypeId::of::<T>(), key.to_owned())).or_insert_with(|| Arc::new(make()));
        Arc::clone(entry).downcast().unwrap_or_else(|_| unreachable!("the type is part of the key"))
    }

    /// Adds text to `/metrics`; a collector of the same name is replaced.
    pub fn set_collector(&self, name: &str, collector: Collector) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), collector);
    }

    /// The text of all collectors, in the order of their names.
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

/// An HTTP call that is not a request being proxied.
#[derive(Clone, Debug, Default)]
pub struct HttpCall {
    /// Method.
    pub method: String,
    /// `http://` or `https://` URL.
    pub url: String,
    /// Fields; `Host` and framing are added.
    pub headers: HeaderList,
    /// Body.
    pub body: Bytes,
    /// Limit on the whole call.
    pub timeout: Duration,
    /// How long a connection may be kept for the next call.
    pub keepalive: Duration,
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// Most bytes of answer that are read; more is an error.
    pub body_max: u64,
}

/// What a call brought.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderList,
    /// Body.
    pub body: Bytes,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL cannot be called.
    #[error("cannot call {url}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The node has run out of descriptors, memory or ports: this tells nothing about the server.
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
    /// Metadata; fields that belong to the protocol are left out.
    pub metadata: HeaderList,
    /// The message, serialised, without its prefix.
    pub message: Bytes,
    /// The message is compressed with gzip.
    pub gzip: bool,
    /// Limit on the whole call; the server is told.
    pub timeout: Duration,
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// Most bytes of the answer's message; more is an error.
    pub message_max: usize,
}

/// What a gRPC call brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcReply {
    /// `grpc-status`, or what stands for the HTTP status of an answer without it.
    pub status: u32,
    /// `grpc-message`, decoded.
    pub reason: String,
    /// `grpc-status-details-bin`, decoded: a `google.rpc.Status`.
    pub details: Bytes,
    /// The message; empty when there is none.
    pub message: Bytes,
}

/// Makes HTTP calls, on the control runtime, with kept-alive connections.
pub trait HttpCaller: Send + Sync {
    /// Makes a call. Dropping the future ends it.
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>>;

    /// Makes a gRPC call, over HTTP/2. Dropping the future ends it. A caller that does not speak gRPC fails it.
    fn grpc(&self, call: GrpcCall) -> Pin<Box<dyn Future<Output = Result<GrpcReply, CallError>> + Send>> {
        Box::pin(async move { Err(CallError::Url { url: call.url, reason: "gRPC is not available here" }) })
    }
}

/// What metrics say about the node.
pub trait NodeView: Send + Sync {
    /// Client connections.
    fn connections(&self) -> ConnectionCounts;
    /// Health of all endpoints.
    fn targets(&self) -> Vec<TargetHealth>;
}

/// Client connections, named as nginx does.
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
    /// Resolved address; empty when the name does not resolve.
    pub address: Box<str>,
    /// `healthy`, `unhealthy`, `healthchecks_off`, `dns_error`.
    pub state: &'static str,
}
