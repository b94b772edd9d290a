//! [`RequestTrace`]: the trace data of a request.

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_http::FailureKind;
use cardinal_ir::TraceFormat;
use cardinal_sdk::trace::{SpanContext, SpanId};
use smallvec::SmallVec;

use super::TelemetryPlan;

/// The trace data of a request.
pub(crate) struct RequestTrace {
    pub(super) plan: Arc<TelemetryPlan>,
    /// The format in which the client's context was received.
    pub(super) received: Option<TraceFormat>,
    /// The id of the client's span.
    pub(super) parent: Option<SpanId>,
    /// The request's own span, or the client's span if none is recorded.
    pub(super) context: SpanContext,
    /// The request is traced.
    pub(super) is_recorded: bool,
    /// Upstreams receive the client's trace headers unchanged.
    pub(super) is_passed_on: bool,
    /// Attempts to reach an upstream, in order; only if the request is traced.
    pub(super) attempts: SmallVec<[Attempt; 1]>,
}

/// An attempt to reach an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    /// The span id sent to the upstream; `None` if no head was sent.
    pub(super) span_id: Option<SpanId>,
    pub(super) ended: Option<Tick>,
    pub(super) failure: Option<FailureKind>,
}

impl RequestTrace {
    /// The tracing plan of the request.
    pub(crate) fn plan(&self) -> &TelemetryPlan {
        &self.plan
    }

    /// Whether the request is traced.
    pub(crate) fn is_sampled(&self) -> bool {
        self.context.sampled
    }

    /// The attempt with this number, from 1.
    pub(super) fn attempt(&mut self, tries: usize) -> Option<&mut Attempt> {
        self.attempts.resize(tries, Attempt::default());
        self.attempts.last_mut()
    }
}
