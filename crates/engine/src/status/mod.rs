//! The status listener: status and metrics over HTTP/1.1, separate from the workers, so that it responds when they are
//! busy.
//!
//! `router` has the paths, `pages` and `metrics` their contents; `server` serves any router, with connection limits and
//! timeouts for slow clients.

mod digest;
mod form;
mod metrics;
mod paced;
mod pages;
mod router;
mod server;
mod tls;
mod upstreams;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::node::Node;
pub(crate) use digest::Digests;
pub(crate) use form::PlainStatus;
pub(crate) use metrics::text as metrics_text;
pub(crate) use pages::form;

/// Serves status requests until the task ends, together with its connections. With `tls`, uses the node's own
/// certificates.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, tls: bool) {
    let router = router::router(Arc::clone(&node));
    server::serve(node, router, listener, tls).await;
}

#[cfg(test)]
mod tests;
