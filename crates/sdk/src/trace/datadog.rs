//! Datadog: decimal ids of 64 bits, and the upper half of a trace id of 128 bits in the tag `_dd.p.tid`.

use cardinal_http::{HeaderList, split_list};
use cardinal_ir::TraceFormat;

use super::text::{Text, parse_decimal, parse_hex_16};
use super::{RemoteContext, SpanContext, SpanId, TraceId, only};

const TRACE_ID: &[u8] = b"x-datadog-trace-id";
const PARENT_ID: &[u8] = b"x-datadog-parent-id";
const PRIORITY: &[u8] = b"x-datadog-sampling-priority";
const TAGS: &[u8] = b"x-datadog-tags";
const UPPER: &[u8] = b"_dd.p.tid=";

/// Maximum size of forwarded tags, bytes, as in Datadog's libraries.
const TAGS_BYTES_MAX: usize = 512;

pub(super) fn extract(headers: &HeaderList) -> Option<RemoteContext> {
    let lower = only(headers, TRACE_ID).and_then(parse_decimal).filter(|id| *id != 0)?;
    let upper = tags(headers).find_map(|tag| tag.strip_prefix(UPPER)).and_then(parse_hex_16).unwrap_or(0);
    // -1 and 0 reject, 1 and 2 keep; -1 and 2 are decisions of the user.
    let priority = only(headers, PRIORITY).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i32>().ok());
    Some(RemoteContext {
        format: TraceFormat::Datadog,
        trace_id: TraceId::new(u128::from(upper) << 64 | u128::from(lower)),
        span_id: only(headers, PARENT_ID).and_then(parse_decimal).and_then(SpanId::new),
        sampled: priority.map(|priority| priority > 0),
        debug: priority.is_some_and(|priority| priority > 1),
    })
}

pub(super) fn inject(headers: &mut HeaderList, context: &SpanContext, keep_tags: bool) {
    let (mut trace_id, mut parent_id) = (Text::new(), Text::new());
    trace_id.decimal(context.trace_id.lower());
    parent_id.decimal(context.span_id.get());
    headers.set_own(TRACE_ID, trace_id.as_bytes());
    headers.set_own(PARENT_ID, parent_id.as_bytes());
    let priority: &[u8] = match (context.sampled, context.debug) {
        (true, true) => b"2",
        (true, false) => b"1",
        (false, _) => b"0",
    };
    headers.set_own(PRIORITY, priority);
    inject_tags(headers, context.trace_id.upper(), keep_tags);
}

/// Writes the tags with this upper half of the trace id; other tags are kept if `keep` is set.
fn inject_tags(headers: &mut HeaderList, upper: u64, keep: bool) {
    let has_tags = headers.contains(TAGS);
    if upper == 0 && !has_tags {
        return;
    }
    let mut value = Text::new();
    if upper != 0 {
        value.push(UPPER).hex(upper);
    }
    if !keep || !has_tags {
        return set_or_remove(headers, value.as_bytes());
    }
    let mut all = value.as_bytes().to_vec();
    for tag in tags(headers).filter(|tag| !tag.starts_with(UPPER)) {
        if all.len() + tag.len() < TAGS_BYTES_MAX {
            if !all.is_empty() {
                all.push(b',');
            }
            all.extend_from_slice(tag);
        }
    }
    set_or_remove(headers, &all);
}

fn set_or_remove(headers: &mut HeaderList, value: &[u8]) {
    if value.is_empty() {
        headers.remove(TAGS);
    } else {
        headers.set_own(TAGS, value);
    }
}

fn tags(headers: &HeaderList) -> impl Iterator<Item = &[u8]> {
    headers.get_all(TAGS).flat_map(split_list).filter(|tag| !tag.is_empty())
}
