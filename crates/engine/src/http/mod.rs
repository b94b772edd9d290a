//! HTTP: connections of both versions, and the life of a request.

mod body;
mod client_body;
mod collect;
mod decide;
mod filters;
mod forward;
mod h1;
mod h2;
mod halt;
mod mirroring;
mod reply;
mod request;
mod request_body;
mod request_info;
mod response_head;
mod session;
mod upstream;
mod upstream_call;
mod upstream_head;
mod upstream_start;

pub(crate) use body::Body;
pub(crate) use decide::{Decided, Stage, Steps, decide};
pub(crate) use h1::{LINGER_MS, serve as serve_h1};
pub(crate) use h2::serve as serve_h2;
pub(crate) use reply::message;
pub(crate) use request_info::with_view;
pub(crate) use session::LINGER_MAX;
pub(crate) use upstream_head::{Outgoing, make_uri, set_host};
