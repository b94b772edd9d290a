//! B3 (Zipkin): the single header `b3`, or several headers that start with `X-B3-`.

use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;

use super::text::{Text, parse_hex_16, parse_hex_16_or_32};
use super::{RemoteContext, SpanContext, SpanId, TraceId, only};

const SINGLE: &[u8] = b"b3";
const TRACE_ID: &[u8] = b"X-B3-TraceId";
const SPAN_ID: &[u8] = b"X-B3-SpanId";
const PARENT_SPAN_ID: &[u8] = b"X-B3-ParentSpanId";
const SAMPLED: &[u8] = b"X-B3-Sampled";
const FLAGS: &[u8] = b"X-B3-Flags";

/// `{trace id}-{span id}[-{decision}[-{parent}]]`, or the decision alone.
pub(super) fn extract_single(headers: &HeaderList) -> Option<RemoteContext> {
    let value = only(headers, SINGLE)?;
    let mut parts = value.split(|byte| *byte == b'-');
    let first = parts.next()?;
    if let Some((sampled, debug)) = decision(first) {
        let alone = parts.next().is_none();
        return alone.then_some(context(TraceFormat::B3Single, None, Some(sampled), debug));
    }
    let ids = ids(first, parts.next()?)?;
    let (sampled, debug) = match parts.next() {
        None => (None, false),
        Some(text) => decision(text).map(|(sampled, debug)| (Some(sampled), debug))?,
    };
    if let Some(parent) = parts.next() {
        parse_hex_16(parent)?;
    }
    parts.next().is_none().then_some(context(TraceFormat::B3Single, Some(ids), sampled, debug))
}

/// Both ids, or the decision alone. A malformed value is treated as absent.
pub(super) fn extract_multi(headers: &HeaderList) -> Option<RemoteContext> {
    let ids = only(headers, TRACE_ID).zip(only(headers, SPAN_ID)).and_then(|(trace, span)| ids(trace, span));
    let debug = only(headers, FLAGS) == Some(b"1");
    let sampled = match only(headers, SAMPLED) {
        _ if debug => Some(true),
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        _ => None,
    };
    (ids.is_some() || sampled.is_some()).then_some(context(TraceFormat::B3, ids, sampled, debug))
}

/// Whether the request is traced, and whether tracing is forced.
fn decision(text: &[u8]) -> Option<(bool, bool)> {
    match text {
        b"0" => Some((false, false)),
        b"1" => Some((true, false)),
        b"d" => Some((true, true)),
        _ => None,
    }
}

fn ids(trace: &[u8], span: &[u8]) -> Option<(TraceId, SpanId)> {
    TraceId::new(parse_hex_16_or_32(trace)?).zip(SpanId::new(parse_hex_16(span)?))
}

fn context(format: TraceFormat, ids: Option<(TraceId, SpanId)>, sampled: Option<bool>, debug: bool) -> RemoteContext {
    RemoteContext { format, trace_id: ids.map(|ids| ids.0), span_id: ids.map(|ids| ids.1), sampled, debug }
}

/// Writes the trace id with 32 digits, or with 16 if it comes from a system with such ids.
fn push_trace_id(value: &mut Text, id: TraceId) {
    if id.upper() != 0 {
        value.hex(id.upper());
    }
    value.hex(id.lower());
}

pub(super) fn inject_single(headers: &mut HeaderList, context: &SpanContext) {
    let mut value = Text::new();
    push_trace_id(&mut value, context.trace_id);
    value.push(b"-").hex(context.span_id.get());
    value.push(match (context.sampled, context.debug) {
        (true, true) => b"-d",
        (true, false) => b"-1",
        (false, _) => b"-0",
    });
    headers.set_own(SINGLE, value.as_bytes());
}

pub(super) fn inject_multi(headers: &mut HeaderList, context: &SpanContext) {
    let (mut trace_id, mut span_id) = (Text::new(), Text::new());
    push_trace_id(&mut trace_id, context.trace_id);
    span_id.hex(context.span_id.get());
    headers.set_own(TRACE_ID, trace_id.as_bytes());
    headers.set_own(SPAN_ID, span_id.as_bytes());
    // The parent of the client's span.
    headers.remove(PARENT_SPAN_ID);
    if context.sampled && context.debug {
        headers.set_own(FLAGS, b"1");
        headers.remove(SAMPLED);
    } else {
        headers.set_own(SAMPLED, if context.sampled { b"1" } else { b"0" });
        headers.remove(FLAGS);
    }
}
