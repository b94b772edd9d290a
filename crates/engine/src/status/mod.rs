//! The status listener: status and metrics over HTTP/1.1, apart from the workers, so that it answers when they are busy.
//!
//! `router` has the paths, `pages` and `metrics` their contents; `server` serves any router, with limits on connections
//! and on slow clients.

mod digest;
mod form;
mod metrics;
mod paced;
mod pages;
mod router;
mod server;
mod text;
mod tls;
mod upstreams;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::node::Node;
pub(crate) use digest::Digests;
pub(crate) use form::PlainStatus;

/// Serves status requests for as long as the task lives; its connections end with it. With `tls`, by the node's own
/// certificates.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, tls: bool) {
    let router = router::router(Arc::clone(&node));
    server::serve(node, router, listener, tls).await;
}

#[cfg(test)]
mod tests;
