//! The tracing of a request: the client's trace context, the contexts sent to upstreams, the spans.

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_http::FailureKind;
use cardinal_ir::{Id, TraceFormat, TraceInjection};
use cardinal_sdk::trace::{self, RemoteContext, SpanContext, SpanId, TraceId};
use smallvec::SmallVec;

use super::TelemetryPlans;
use super::span::Finished;
use super::spans::spans;
use super::trace::RequestTrace;
use crate::exchange::Scratch;

/// A request with this header asks to be traced (Envoy's header).
const CLIENT_TRACE_ID: &[u8] = b"x-client-trace-id";

/// Reads the trace context of a request with this listener group, route (an origin's id) and backend, and decides
/// whether it is traced. Removes the headers that must not be forwarded.
pub(crate) fn start(
    plans: &TelemetryPlans,
    (listeners, route, backend): (Option<Id>, Option<Id>, Option<Id>),
    s: &mut Scratch,
    random: impl Fn() -> u64,
) {
    let Some(plan) = plans.find(listeners, route, backend) else { return };
    let propagation = &plan.record.propagation;
    let headers = &mut s.request.headers;
    let remote = trace::extract(headers, &propagation.extract);
    let asked = match remote.and_then(|remote| remote.sampled) {
        None if headers.contains(CLIENT_TRACE_ID) => Some(true),
        decision => decision,
    };
    for name in &propagation.clear {
        headers.remove(name.as_bytes());
    }
    let sampled = plan.is_sampled(asked, &random);
    let is_recorded = sampled && plan.exporter.is_some();
    let parent = remote.and_then(|remote| remote.span_id);
    let context = SpanContext {
        trace_id: remote.and_then(|remote| remote.trace_id).unwrap_or_else(|| TraceId::random(&random)),
        // An unrecorded span must not be the parent of the upstream's span: the trace would have a gap.
        span_id: parent.filter(|_| !is_recorded).unwrap_or_else(|| SpanId::random(&random)),
        sampled,
        debug: sampled && remote.is_some_and(|remote| remote.debug),
    };
    let is_passed_on = propagation.clear.is_empty()
        && propagation.inject.iter().all(|injection| *injection == TraceInjection::Preserve)
        && !is_recorded
        && remote.is_some_and(|remote| says(&remote, &context));
    let received = remote.map(|remote| remote.format);
    s.exchange.trace = Some(context);
    let (plan, attempts) = (Arc::clone(plan), SmallVec::new());
    s.trace = Some(RequestTrace { plan, received, parent, context, is_recorded, is_passed_on, attempts });
}

/// Whether the trace headers for the upstream derive from the client's headers.
fn says(remote: &RemoteContext, context: &SpanContext) -> bool {
    remote.trace_id == Some(context.trace_id)
        && remote.span_id == Some(context.span_id)
        && remote.sampled == Some(context.sampled)
        // `tracestate` may have to be shortened.
        && remote.format != TraceFormat::W3c
}

/// Sets the trace headers of the next upstream request head.
pub(crate) fn before_attempt(s: &mut Scratch, random: impl FnOnce() -> u64) {
    let Some(trace) = &mut s.trace else { return };
    if trace.is_passed_on {
        return;
    }
    let mut context = trace.context;
    if trace.is_recorded {
        context.span_id = SpanId::random(random);
        if let Some(attempt) = trace.attempt(s.exchange.tries.len()) {
            attempt.span_id = Some(context.span_id);
        }
    }
    let propagation = &trace.plan.record.propagation;
    for injection in &propagation.inject {
        let format = match injection {
            TraceInjection::Preserve => trace.received.unwrap_or(propagation.default_format),
            TraceInjection::Format(format) => *format,
        };
        trace::inject(&mut s.request.headers, format, &context, trace.received);
    }
}

/// Records the failure of the last attempt.
pub(crate) fn attempt_failed(s: &mut Scratch, failure: FailureKind, now: Tick) {
    let Some(trace) = s.trace.as_mut().filter(|trace| trace.is_recorded) else { return };
    if let Some(attempt) = trace.attempt(s.exchange.tries.len()) {
        (attempt.failure, attempt.ended) = (Some(failure), Some(now));
    }
}

/// Records that the last attempt ended with a response, which is dropped for a retry.
pub(crate) fn attempt_ended(s: &mut Scratch, now: Tick) {
    let Some(trace) = s.trace.as_mut().filter(|trace| trace.is_recorded) else { return };
    if let Some(attempt) = trace.attempt(s.exchange.tries.len()) {
        attempt.ended = Some(now);
    }
}

/// Queues the spans of a finished request for export. `answered`: a response head was sent.
pub(crate) fn finish(s: &Scratch, answered: bool, random: impl Fn() -> u64) {
    let Some(trace) = s.trace.as_ref().filter(|trace| trace.is_recorded) else { return };
    if let Some(exporter) = &trace.plan.exporter {
        exporter.push(Finished::new(spans(trace, s, answered, random)));
    }
}
