//! Kong's Admin API. Kong: `kong/api`.
//!
//! [`Admin`] answers requests; `path` finds what a path means, `body` and `form` read arguments, `entities` has the generic
//! operations, the other modules special paths, `openapi` the description of it all. `guard` decides whether a request is
//! allowed. `server` serves it all on sockets.

mod admin;
mod body;
mod browser;
mod budget;
mod call;
mod configuration;
mod consumer_groups;
mod debug;
mod entities;
mod form;
mod guard;
mod history;
mod information;
mod login;
mod message;
mod metrics;
mod openapi;
mod path;
mod quarantine;
mod rbac;
mod schemas;
mod server;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_bodies;
#[cfg(test)]
mod tests_of_files;
#[cfg(test)]
#[cfg(test)]
mod tests_of_openapi;
#[cfg(test)]
mod tests_of_users;
#[cfg(test)]
mod tests_of_workspaces;
mod write_limit;

pub use admin::Admin;
pub use message::{AdminSettings, Credentials, Declarative, Request, Response};
pub use metrics::AdminMetrics;
pub use openapi::openapi;
pub use path::route_patterns;
pub use server::{Listener, serve};
