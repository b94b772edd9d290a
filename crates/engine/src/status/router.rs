//! The paths of the status listener.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::metrics;
use super::pages::{self, Page};
use crate::node::Node;

/// The paths of the status listener, with a fallback for all others.
pub(super) fn router(node: Arc<Node>) -> Router {
    routes().fallback(not_found).with_state(node)
}

/// The paths without the fallback, for merging with another router: of merged routers, only one may have a fallback.
pub(super) fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/status", page(get(status)))
        .route("/status/ready", page(get(ready)))
        .route("/status/dns", page(get(dns)))
        .route("/status/upstreams", page(get(upstreams)))
        .route("/metrics", page(get(all_metrics)))
}

/// Pages support GET and HEAD.
fn page(methods: MethodRouter<Arc<Node>>) -> MethodRouter<Arc<Node>> {
    methods.fallback(method_not_allowed)
}

async fn status(State(node): State<Arc<Node>>, RawQuery(query): RawQuery) -> Page {
    pages::status(&node, query.unwrap_or_default().as_bytes()).await
}

async fn ready(State(node): State<Arc<Node>>) -> Page {
    pages::ready(&node)
}

async fn dns(State(node): State<Arc<Node>>) -> Page {
    pages::dns(&node)
}

async fn upstreams(State(node): State<Arc<Node>>) -> Page {
    pages::upstreams(&node)
}

async fn all_metrics(State(node): State<Arc<Node>>) -> Page {
    Page { status: 200, content_type: "text/plain; charset=UTF-8", body: metrics::text(&node) }
}

async fn not_found() -> Page {
    Page::message(404, "Not found")
}

async fn method_not_allowed() -> Response {
    ([(ALLOW, "GET, HEAD")], Page::message(405, "Method not allowed")).into_response()
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}
