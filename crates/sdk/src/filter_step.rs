//! [`FilterStep`]: what a filter says in the phases after the request head.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::reply::Reply;

/// What comes after a filter's part in a phase.
pub enum FilterStep<'a> {
    /// The next filter.
    Continue,
    /// This reply, instead of what the upstream sends.
    Reply(Box<Reply>),
    /// What the future says.
    Wait(Pin<Box<dyn Future<Output = FilterDecision> + 'a>>),
    /// The filter failed: the reason is logged, the client gets 500 `An unexpected error occurred`.
    Fail(String),
}

impl FilterStep<'_> {
    /// A reply.
    pub fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }

    /// The decision, waiting for it where the filter does.
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

/// What a filter decided, in a phase that does not wait or after it has waited.
#[derive(Clone, Debug)]
pub enum FilterDecision {
    /// The next filter.
    Continue,
    /// This reply, instead of what the upstream sends.
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
