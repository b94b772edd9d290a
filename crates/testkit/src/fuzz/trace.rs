//! Trace contexts in request headers.

use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;
use cardinal_sdk::trace::{SpanContext, SpanId, TraceId, extract, inject};

/// Header lines.
pub(super) const HEADERS: &[&[u8]] = &[
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=1,b@c=2",
    b"traceparent: cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more\ntracestate: x=\ntracestate: y=1",
    b"b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d-0000000000000007",
    b"b3: 0\nX-B3-TraceId: 8448eb211c80319c\nX-B3-SpanId: b7ad6b7169203331\nX-B3-Sampled: true\nX-B3-Flags: 1",
    b"x-datadog-trace-id: 9532127138774266268\nx-datadog-parent-id: 1\nx-datadog-sampling-priority: 2\nx-datadog-tags: _dd.p.tid=0af7651916cd43dd,a=b",
    b"uber-trace-id: af7651916cd43dd8448eb211c80319c%3Ab7ad6b7169203331:0:3",
    b"ot-tracer-traceid: 8448eb211c80319c\not-tracer-spanid: b7ad6b7169203331\not-tracer-sampled: false",
    b"X-Amzn-Trace-Id: Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=?",
    b"X-Cloud-Trace-Context: 0af7651916cd43dd8448eb211c80319c/13235353014750950193;o=1",
];

/// Whatever a client sends, upstreams get one context: ours, in headers that are well-formed and short.
pub(super) fn check_context(input: &[u8]) {
    let mut sent = HeaderList::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(at) = line.iter().position(|byte| *byte == b':') {
            // A malformed field is not taken.
            sent.append(&line[..at], &line[at + 1..]);
        }
    }
    for format in TraceFormat::ALL {
        let found = extract(&sent, &[format]);
        assert_eq!(found, extract(&sent, &[format]));
        let ours = SpanContext {
            trace_id: found.and_then(|found| found.trace_id).unwrap_or(TraceId::new(7).expect("it is not zero")),
            span_id: SpanId::new(u64::MAX).expect("it is not zero"),
            sampled: found.and_then(|found| found.sampled).unwrap_or(true),
            debug: false,
        };
        let mut headers = sent.clone();
        inject(&mut headers, format, &ours, found.map(|found| found.format));
        let once: Vec<_> = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        inject(&mut headers, format, &ours, found.map(|found| found.format));
        let mut twice: Vec<_> = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let mut sorted = once.clone();
        sorted.sort();
        twice.sort();
        assert_eq!(sorted, twice, "{format:?}: the second time changes nothing");
        // The single header of B3 may say something else beside the others, and goes first.
        if format == TraceFormat::B3 {
            headers.remove(b"b3");
        }
        let again = extract(&headers, &[format]).unwrap_or_else(|| panic!("{format:?}: {once:?}"));
        assert_eq!((again.trace_id, again.span_id), (Some(ours.trace_id), Some(ours.span_id)), "{format:?}");
        assert_eq!(again.sampled, Some(ours.sampled), "{format:?}");
        if format == TraceFormat::W3c {
            let states: Vec<_> = headers.get_all(b"tracestate").collect();
            assert!(states.len() <= 1, "{states:?}");
            let members =
                |state: &&[u8]| state.split(|byte| *byte == b',').filter(|m| !m.trim_ascii().is_empty()).count();
            assert!(states.iter().all(|state| state.len() <= 512 && members(state) <= 32), "{states:?}");
        }
    }
}
