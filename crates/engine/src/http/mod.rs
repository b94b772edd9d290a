//! HTTP: connections of both versions, and the life of a request.

mod call_state;
mod decide;
mod exchange;
mod facts;
mod failure_log;
mod filters;
mod forward;
mod h1;
mod h2;
mod halt;
mod mirroring;
mod reply;
mod request_body;
mod response_head;
mod scratch;
mod throttle;
mod tunnel;
mod upstream;
mod upstream_call;
mod upstream_head;

pub(crate) use decide::{Decided, Stage, Steps, decide};
pub(crate) use exchange::{Body, log_end, make_uri, note};
pub(crate) use facts::{ConnectionInfo, Entrance, is_trusted, with_view};
pub(crate) use failure_log::target_text;
pub(crate) use filters::choose_all;
pub(crate) use h1::serve as serve_h1;
pub(crate) use h2::serve as serve_h2;
pub(crate) use reply::message;
pub(crate) use scratch::Scratch;
pub(crate) use tunnel::{TunnelLimits, tunnel};
pub(crate) use upstream::{connect_failure, connect_timeout, pick, picked_text, report_failure};
pub(crate) use upstream_head::{Outgoing, set_host};
