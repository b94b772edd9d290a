//! Shared parts of requests and stream sessions: scratch memory, endpoint selection, failures, tunnels, the log phase.

mod call_state;
mod connecting;
mod copies;
mod endpoint;
pub(crate) mod failure_log;
mod filtered_body;
mod log_phase;
mod replay;
mod scratch;
mod throttle;
mod trusted;
mod tunnel;

pub(crate) use call_state::{CallState, Lasting};
pub(crate) use connecting::{connect_failure, connect_timeout};
pub(crate) use copies::Copies;
pub(crate) use endpoint::{pick, picked_text, report_failure};
pub(crate) use failure_log::target_text;
pub(crate) use filtered_body::FilteredBody;
pub(crate) use log_phase::{choose_all, log_end, note};
pub(crate) use replay::Replay;
pub(crate) use scratch::{NO_ROOM, Scratch};
pub(crate) use throttle::Throttle;
pub(crate) use trusted::is_trusted;
pub(crate) use tunnel::{TunnelLimits, tunnel};
