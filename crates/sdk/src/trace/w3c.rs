//! W3C Trace Context, level 1: `traceparent` and `tracestate`.

use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;

use super::text::{Text, parse_hex, parse_hex_16};
use super::{RemoteContext, SpanContext, SpanId, TraceId, only};

const TRACEPARENT: &[u8] = b"traceparent";
const TRACESTATE: &[u8] = b"tracestate";

/// Length of a `traceparent` of version 0.
const LENGTH: usize = 55;
/// Maximum number of `tracestate` bytes that are forwarded (section 3.3.1.5 requires at least as many).
const STATE_BYTES_MAX: usize = 512;
/// Maximum number of `tracestate` members that are forwarded.
const STATE_MEMBERS_MAX: usize = 32;
/// If members have to be dropped, longer ones are dropped first.
const MEMBER_BYTES_KEPT: usize = 128;

/// `None` unless there is exactly one valid `traceparent` (section 2.2); later versions may be longer.
pub(super) fn extract(headers: &HeaderList) -> Option<RemoteContext> {
    let value = only(headers, TRACEPARENT)?;
    let (known, rest) = value.split_at_checked(LENGTH)?;
    if known.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut parts = known.split(|byte| *byte == b'-');
    let version = parts.next().filter(|v| v.len() == 2).and_then(parse_hex)?;
    if version == 0xff || !(rest.is_empty() || (version > 0 && rest.first() == Some(&b'-'))) {
        return None;
    }
    let trace_id = parts.next().filter(|id| id.len() == 32).and_then(parse_hex).and_then(TraceId::new)?;
    let span_id = parts.next().and_then(parse_hex_16).and_then(SpanId::new)?;
    let flags = parts.next().filter(|flags| flags.len() == 2).and_then(parse_hex)?;
    if parts.next().is_some() {
        return None;
    }
    Some(RemoteContext {
        format: TraceFormat::W3c,
        trace_id: Some(trace_id),
        span_id: Some(span_id),
        sampled: Some(flags & 1 == 1),
        debug: false,
    })
}

pub(super) fn inject(headers: &mut HeaderList, context: &SpanContext, keep_state: bool) {
    let mut value = Text::new();
    value.push(b"00-").hex(context.trace_id.upper()).hex(context.trace_id.lower());
    value.push(b"-").hex(context.span_id.get()).push(if context.sampled { b"-01" } else { b"-00" });
    headers.set_own(TRACEPARENT, value.as_bytes());
    if !headers.contains(TRACESTATE) {
        return;
    }
    if !keep_state {
        headers.remove(TRACESTATE);
    } else if only(headers, TRACESTATE).is_none_or(|state| !fits(state)) {
        match shortened(headers) {
            Some(state) => headers.set_own(TRACESTATE, &state),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
}

/// Whether a value can be forwarded unchanged.
fn fits(state: &[u8]) -> bool {
    state.len() <= STATE_BYTES_MAX && members(state).count() <= STATE_MEMBERS_MAX && members(state).all(is_member)
}

/// The members of a value. Empty members are allowed and ignored.
fn members(state: &[u8]) -> impl Iterator<Item = &[u8]> {
    cardinal_http::split_list(state).filter(|member| !member.is_empty())
}

/// All values joined, without surplus members; `None` if malformed or empty. The first members are the most recent
/// ones, so the last ones are dropped first.
fn shortened(headers: &HeaderList) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for member in headers.get_all(TRACESTATE).flat_map(members) {
        if !is_member(member) {
            return None;
        }
        if kept.len() < STATE_MEMBERS_MAX {
            kept.push(member);
        }
    }
    let length = |kept: &[&[u8]]| kept.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&kept) > STATE_BYTES_MAX {
        let long = kept.iter().rposition(|member| member.len() > MEMBER_BYTES_KEPT);
        kept.remove(long.unwrap_or(kept.len().saturating_sub(1)));
    }
    (!kept.is_empty()).then(|| kept.join(b",".as_slice()))
}

/// Whether this is `key=value` (section 3.3.1.3).
fn is_member(member: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'=', member) else { return false };
    let (key, value) = (member.get(..at).unwrap_or_default(), member.get(at + 1..).unwrap_or_default());
    let is_key_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let key_is_valid = (1..=256).contains(&key.len())
        && key.iter().all(is_key_byte)
        && key.first().is_some_and(u8::is_ascii_alphanumeric)
        && key.iter().filter(|byte| **byte == b'@').count() <= 1;
    let is_value_byte = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=' && *byte != b',';
    key_is_valid && (1..=256).contains(&value.len()) && value.iter().all(is_value_byte)
}
