//! The OpenTelemetry protocol: protobuf, over HTTP or gRPC.

use prost::Message as _;

use super::proto::{
    Any, AnyValue, ExportRequest, ExportResponse, KeyValue, Resource as ResourceMessage, ResourceSpans, Scope,
    ScopeSpans, Span as SpanMessage, SpanKind, Status,
};
use super::resource::{NAME, Resource};
use crate::policy::telemetry::span::{Finished, Kind, Span, Value};

/// The gRPC method for exporting traces.
pub(super) const GRPC_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Flags of a span: the lowest byte contains those of W3C Trace Context.
const SAMPLED: u32 = 1;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Status code of a failed span.
const ERROR: i32 = 2;

/// The request for a batch.
pub(super) fn encode<'r>(resource: &Resource, requests: impl Iterator<Item = &'r Finished>) -> Vec<u8> {
    let attributes = resource.attributes.iter();
    let attributes = attributes.map(|(name, value)| key_value(name, Any::Text(value.to_string()))).collect();
    let scope = Scope { name: NAME.to_owned(), version: resource.version.to_owned() };
    let spans = requests.flat_map(|finished| &finished.spans).map(message).collect();
    let resource = Some(ResourceMessage { attributes });
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

/// The number of spans that a collector rejected, with the message. An unreadable response counts as no rejection.
pub(super) fn rejected(answer: &[u8]) -> Option<(i64, String)> {
    let partial = ExportResponse::decode(answer).ok()?.partial_success?;
    Some((partial.rejected_spans, partial.error_message))
}

fn message(span: &Span) -> SpanMessage {
    let kind = match span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    };
    let attribute = |(name, value): &(std::borrow::Cow<'static, str>, Value)| {
        let value = match value {
            Value::Text(text) => Any::Text(text.clone().into_owned()),
            Value::Number(number) => Any::Number(*number),
        };
        key_value(name, value)
    };
    SpanMessage {
        trace_id: span.trace_id.get().to_be_bytes().to_vec(),
        span_id: span.id.get().to_be_bytes().to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.get().to_be_bytes().to_vec()),
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.is_error.then(|| Status { message: String::new(), code: ERROR }),
        flags: SAMPLED | HAS_IS_REMOTE | if span.parent_is_remote { IS_REMOTE } else { 0 },
    }
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
