//! Vendor formats: Jaeger, OpenTracing, AWS X-Ray, Google Cloud.

use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;

use super::text::{Text, parse_decimal, parse_hex, parse_hex_16, parse_hex_16_or_32};
use super::{RemoteContext, SpanContext, SpanId, TraceId, only};

const JAEGER: &[u8] = b"uber-trace-id";
const OT_TRACE_ID: &[u8] = b"ot-tracer-traceid";
const OT_SPAN_ID: &[u8] = b"ot-tracer-spanid";
const OT_SAMPLED: &[u8] = b"ot-tracer-sampled";
const AWS: &[u8] = b"X-Amzn-Trace-Id";
const GCP: &[u8] = b"X-Cloud-Trace-Context";

/// `{trace id}:{span id}:{parent}:{flags}`, in hex digits whose leading zeros may be missing. Some clients send `%3A`
/// instead of colons.
pub(super) fn extract_jaeger(headers: &HeaderList) -> Option<RemoteContext> {
    let value = only(headers, JAEGER).filter(|value| value.len() <= 96)?;
    let mut decoded = [0; 96];
    let (mut length, mut rest) = (0, value);
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match after.split_at_checked(2) {
            Some((b"3A" | b"3a", after)) if *first == b'%' => (b':', after),
            _ => (*first, after),
        };
        *decoded.get_mut(length)? = byte;
        (length, rest) = (length + 1, after);
    }
    let mut parts = decoded.get(..length)?.split(|byte| *byte == b':');
    let trace_id = TraceId::new(parse_hex(parts.next()?)?)?;
    let span_id = SpanId::new(u64::try_from(parse_hex(parts.next()?)?).ok()?);
    // The parent of the client's span is not needed.
    parts.next()?;
    let flags = parse_hex(parts.next()?)?;
    let (sampled, debug) = (flags & 1 == 1, flags & 3 == 3);
    let sampled = Some(sampled);
    let context = RemoteContext { format: TraceFormat::Jaeger, trace_id: Some(trace_id), span_id, sampled, debug };
    parts.next().is_none().then_some(context)
}

pub(super) fn inject_jaeger(headers: &mut HeaderList, context: &SpanContext) {
    let mut value = Text::new();
    if context.trace_id.upper() != 0 {
        value.hex(context.trace_id.upper());
    }
    value.hex(context.trace_id.lower()).push(b":").hex(context.span_id.get());
    value.push(match (context.sampled, context.debug) {
        (true, true) => b":0:3",
        (true, false) => b":0:1",
        (false, _) => b":0:0",
    });
    headers.set_own(JAEGER, value.as_bytes());
}

pub(super) fn extract_ot(headers: &HeaderList) -> Option<RemoteContext> {
    let trace_id = only(headers, OT_TRACE_ID).and_then(parse_hex_16_or_32).and_then(TraceId::new)?;
    let span_id = only(headers, OT_SPAN_ID).and_then(parse_hex_16).and_then(SpanId::new)?;
    let sampled = match only(headers, OT_SAMPLED) {
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        _ => None,
    };
    let format = TraceFormat::Ot;
    Some(RemoteContext { format, trace_id: Some(trace_id), span_id: Some(span_id), sampled, debug: false })
}

pub(super) fn inject_ot(headers: &mut HeaderList, context: &SpanContext) {
    let (mut trace_id, mut span_id) = (Text::new(), Text::new());
    if context.trace_id.upper() != 0 {
        trace_id.hex(context.trace_id.upper());
    }
    trace_id.hex(context.trace_id.lower());
    span_id.hex(context.span_id.get());
    headers.set_own(OT_TRACE_ID, trace_id.as_bytes());
    headers.set_own(OT_SPAN_ID, span_id.as_bytes());
    headers.set_own(OT_SAMPLED, if context.sampled { b"1" } else { b"0" });
}

/// `Root=1-{8 digits}-{24 digits};Parent={16 digits};Sampled={0|1|?}` in any order. Load balancers only send the root.
pub(super) fn extract_aws(headers: &HeaderList) -> Option<RemoteContext> {
    let value = only(headers, AWS)?;
    let (mut trace_id, mut span_id, mut sampled) = (None, None, None);
    for part in value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
        if let Some(root) = part.strip_prefix(b"Root=1-") {
            let (time, rest) = root.split_at_checked(8)?;
            let random = rest.strip_prefix(b"-").filter(|random| random.len() == 24)?;
            trace_id = TraceId::new(parse_hex(time)? << 96 | parse_hex(random)?);
        } else if let Some(parent) = part.strip_prefix(b"Parent=") {
            span_id = parse_hex_16(parent).and_then(SpanId::new);
        } else if let Some(decision) = part.strip_prefix(b"Sampled=") {
            sampled = match decision {
                b"1" => Some(true),
                b"0" => Some(false),
                _ => None,
            };
        }
    }
    let trace_id = Some(trace_id?);
    Some(RemoteContext { format: TraceFormat::Aws, trace_id, span_id, sampled, debug: false })
}

pub(super) fn inject_aws(headers: &mut HeaderList, context: &SpanContext) {
    let mut digits = Text::new();
    digits.hex(context.trace_id.upper()).hex(context.trace_id.lower());
    let (time, random) = digits.as_bytes().split_at_checked(8).unwrap_or_default();
    let mut value = Text::new();
    value.push(b"Root=1-").push(time).push(b"-").push(random);
    value.push(b";Parent=").hex(context.span_id.get());
    value.push(if context.sampled { b";Sampled=1" } else { b";Sampled=0" });
    headers.set_own(AWS, value.as_bytes());
}

/// `{trace id}[/{decimal span id}][;o={0|1}]`.
pub(super) fn extract_gcp(headers: &HeaderList) -> Option<RemoteContext> {
    let value = only(headers, GCP)?;
    let mut parts = value.split(|byte| *byte == b';');
    let mut ids = parts.next()?.split(|byte| *byte == b'/');
    let trace_id = Some(ids.next().filter(|id| id.len() == 32).and_then(parse_hex).and_then(TraceId::new)?);
    let span_id = match ids.next() {
        Some(digits) => SpanId::new(parse_decimal(digits)?),
        None => None,
    };
    let sampled = match parts.next() {
        Some(b"o=1") => Some(true),
        Some(b"o=0") => Some(false),
        _ => None,
    };
    Some(RemoteContext { format: TraceFormat::Gcp, trace_id, span_id, sampled, debug: false })
}

pub(super) fn inject_gcp(headers: &mut HeaderList, context: &SpanContext) {
    let mut value = Text::new();
    value.hex(context.trace_id.upper()).hex(context.trace_id.lower()).push(b"/").decimal(context.span_id.get());
    value.push(if context.sampled { b";o=1" } else { b";o=0" });
    headers.set_own(GCP, value.as_bytes());
}
