//! [`RequestTrace`]: what is known of the trace of a request.

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_http::FailureKind;
use cardinal_ir::TraceFormat;
use cardinal_sdk::trace::{SpanContext, SpanId};
use smallvec::SmallVec;

use super::TelemetryPlan;

/// What is known of the trace of a request.
pub(crate) struct RequestTrace {
    pub(super) plan: Arc<TelemetryPlan>,
    /// Where the client's context was found.
    pub(super) received: Option<TraceFormat>,
    /// The client's span.
    pub(super) parent: Option<SpanId>,
    /// The request's own span, or the client's where none is recorded.
    pub(super) context: SpanContext,
    /// Spans are made of the request.
    pub(super) is_recorded: bool,
    /// Upstreams get what the client sent.
    pub(super) is_passed_on: bool,
    /// Attempts to reach an upstream, only where spans are made. The n-th is that of the n-th try.
    pub(super) attempts: SmallVec<[Attempt; 1]>,
}

/// An attempt to reach an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    /// The span that the upstream was told of; `None` when no head was sent.
    pub(super) span_id: Option<SpanId>,
    pub(super) ended: Option<Tick>,
    pub(super) failure: Option<FailureKind>,
}

impl RequestTrace {
    /// The tracing that applies.
    pub(crate) fn plan(&self) -> &TelemetryPlan {
        &self.plan
    }

    /// Whether the request is traced.
    pub(crate) fn is_sampled(&self) -> bool {
        self.context.sampled
    }

    /// The attempt of the try of this number, from 1.
    pub(super) fn attempt(&mut self, tries: usize) -> Option<&mut Attempt> {
        self.attempts.resize(tries, Attempt::default());
        self.attempts.last_mut()
    }
}
