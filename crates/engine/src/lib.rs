//! The data plane: IR to plan to traffic.
//!
//! Workers are threads with a runtime of their own each; a request lives on one of them from its first byte to its
//! last. Control work (name resolution, health checks, status, log shipping) runs on a small runtime beside them.
//!
//! *Must not know*: plugins by name, front ends, stores.
//!
//! Start at [`Engine`]; the life of a request is `http::request`, then `http::upstream_call`.

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
pub use listening::{Handover, Socket};
pub use loopback::Loopback;
pub use outcome::{Applied, ApplyError, EngineError};
pub use plan::Plan;
