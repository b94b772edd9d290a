//! Policies: behaviour that the engine itself implements, one folder each.
//!
//! A policy is built from its record when a generation is planned, and runs in the filter chain like the filter of a
//! plugin. The fields are documented at the records ([`cardinal_ir::policy`]).

pub(crate) mod action;
mod authorization;
mod building;
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

use cardinal_ir::PolicySpec;
use cardinal_sdk::{BuildError, Filter};

pub(crate) use building::PolicyCx;
pub(crate) use clients::Clients;
pub(crate) use counts::{Event, PolicyCounts};

/// Builds the policy of a record. Errors name fields of the record's `spec`.
pub(crate) fn build(spec: &PolicySpec, cx: &PolicyCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    Ok(match spec {
        PolicySpec::Authorization(spec) => Arc::new(authorization::Access::build(spec, cx)?),
        PolicySpec::RateLimit(spec) => Arc::new(rate_limit::Limit::build(spec, cx)?),
        PolicySpec::Fault(spec) => Arc::new(fault::Faults::build(spec, cx)?),
        PolicySpec::Respond(spec) => Arc::new(respond::Responder::build(spec)?),
    })
}

#[cfg(test)]
mod tests;
