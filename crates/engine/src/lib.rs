//! The data plane: IR to plan to traffic.
//!
//! Each worker is a thread with its own runtime, and a request stays on one worker. Control work (name resolution,
//! health checks, status, log shipping, span export) runs on a separate small runtime, and generations are planned on
//! dedicated threads.
//!
//! *Must not know*: plugins by name, front ends, stores, where its configuration comes from.
//!
//! Start at [`Engine`]; the life of a request is `http::request` with `http::decide`, then `http::upstream_call`; a
//! generation is planned in [`plan`]; policies are in `policy`, one folder each.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod accept;
mod access_log;
mod applying;
mod arrival;
mod caller;
mod certificate_reader;
mod certificates;
mod configuration;
mod connector;
mod counters;
mod detect;
mod engine;
mod exchange;
pub mod explain;
mod handle;
mod health;
mod http;
mod http_client;
mod listening;
mod loopback;
mod memory_trim;
mod names;
mod network;
mod node;
mod offline;
mod outcome;
pub mod plan;
mod policy;
mod redis_client;
mod status;
mod stream;
mod worker;

pub use access_log::AccessLog;
pub use configuration::Configuration;
pub use counters::Totals;
pub use engine::{Engine, Options, hostname};
pub use handle::{NodeHandle, SetHealthError};
pub use listening::{Handover, Socket};
pub use loopback::Loopback;
pub use outcome::{Applied, ApplyError, EngineError};
pub use plan::Plan;
