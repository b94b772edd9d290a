//! Policies: behaviour that the engine itself implements, one folder each.
//!
//! A policy is built from its record when a generation is planned, and runs in the filter chain like the filter of a plugin.
//! The records say what each field means ([`cardinal_ir::policy`]).

pub(crate) mod action;
mod authorization;
pub(crate) mod circuit;
mod clients;
mod counts;
mod fault;
pub(crate) mod headers;
pub(crate) mod mirror;
mod ranges;
mod rate_limit;
mod respond;
pub(crate) mod retry;
pub(crate) mod rewrite;
pub(crate) mod telemetry;
pub(crate) mod timeouts;

use std::sync::Arc;

use cardinal_ir::{Id, PolicySpec, Scope};
use cardinal_sdk::{BuildError, Filter, Services};

pub(crate) use clients::Clients;
pub(crate) use counts::{Event, PolicyCounts};

/// What building a policy may use.
pub(crate) struct PolicyCx<'x> {
    pub(crate) services: &'x Services,
    /// The name of the user's object, for logs.
    pub(crate) label: String,
    pub(crate) id: Id,
    pub(crate) scope: &'x Scope,
    /// The position among filters.
    pub(crate) order: i32,
    /// The policy stands for an instance of a plugin.
    pub(crate) of_plugin: bool,
}

/// Builds the policy of a record. Errors name fields of the record's `spec`.
pub(crate) fn build(spec: &PolicySpec, cx: &PolicyCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    Ok(match spec {
        PolicySpec::Authorization(spec) => Arc::new(authorization::Access::build(spec, cx)?),
        PolicySpec::RateLimit(spec) => Arc::new(rate_limit::Limit::build(spec, cx)?),
        PolicySpec::Fault(spec) => Arc::new(fault::Faults::build(spec, cx)?),
        PolicySpec::Respond(spec) => Arc::new(respond::Responder::build(spec)?),
    })
}

/// A status of a final response.
fn final_status(field: &str, status: u16) -> Result<u16, BuildError> {
    match status {
        200..=599 => Ok(status),
        _ => Err(BuildError::new(field, "must be a status from 200 to 599")),
    }
}

/// Refuses header fields that cannot be sent.
fn check_fields(field: &str, fields: &[(Box<str>, Box<str>)]) -> Result<(), BuildError> {
    let is_legal = |(name, value): &(Box<str>, Box<str>)| {
        cardinal_http::is_token(name.as_bytes()) && cardinal_http::is_value(value.as_bytes())
    };
    match fields.iter().find(|field| !is_legal(field)) {
        Some((name, _)) => Err(BuildError::new(field, format!("'{name}' is not a legal header or its value is not"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
