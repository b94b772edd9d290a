//! [`FilterStep`]: the result of a filter in the phases after the request head.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::reply::Reply;

/// The result of a filter in a phase.
pub enum FilterStep<'a> {
    /// Continue with the next filter.
    Continue,
    /// Reply instead of the upstream's response.
    Reply(Box<Reply>),
    /// Wait for the future, and use its decision.
    Wait(Pin<Box<dyn Future<Output = FilterDecision> + 'a>>),
    /// The filter failed with this reason, which is logged; the client receives 500 `An unexpected error occurred`.
    Fail(String),
}

impl FilterStep<'_> {
    /// A reply.
    pub fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }

    /// The decision; waits if the filter does.
    pub async fn settle(self) -> FilterDecision {
        match self {
            FilterStep::Continue => FilterDecision::Continue,
            FilterStep::Reply(reply) => FilterDecision::Reply(reply),
            FilterStep::Wait(future) => future.await,
            FilterStep::Fail(reason) => FilterDecision::Fail(reason),
        }
    }
}

impl fmt::Debug for FilterStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Self::Wait(_) => f.write_str("Wait"),
            Self::Fail(reason) => f.debug_tuple("Fail").field(reason).finish(),
        }
    }
}

/// The decision of a filter, in a phase without waiting or after it has waited.
#[derive(Clone, Debug)]
pub enum FilterDecision {
    /// Continue with the next filter.
    Continue,
    /// Reply instead of the upstream's response.
    Reply(Box<Reply>),
    /// The filter failed.
    Fail(String),
}

impl FilterDecision {
    /// A reply.
    pub fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}
