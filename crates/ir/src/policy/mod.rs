//! Typed policies: plain data, one implementation each in the engine. Every front end lowers its own form to them.

mod retry;
mod timeouts;

pub use retry::{
    Backoff, GrpcCode, HeaderCheck, HeaderValue, RateLimitedBackoff, ResetFormat, ResetHeader, Retry, RetryBudget,
    RetryCondition, RetryMethods,
};
pub use timeouts::{TimeoutOverrides, Timeouts};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Policies of a route. Each replaces that of the route's backends; one that is absent leaves theirs in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutePolicies {
    /// Replaces [`Backend::retry`](crate::Backend::retry) as a whole; `attempts: 0` turns retries off.
    pub retry: Option<Arc<Retry>>,
    /// Replaces single values of [`Backend::timeouts`](crate::Backend::timeouts).
    pub timeouts: Option<TimeoutOverrides>,
}
