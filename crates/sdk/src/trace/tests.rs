//! All formats in both directions: known values, malicious ones, and random contexts.

use cardinal_base::{Rng as _, SeededRng};
use cardinal_http::HeaderList;
use cardinal_ir::TraceFormat;
use proptest::prelude::*;

use super::*;

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const SPAN: u64 = 0xb7ad_6b71_6920_3331;

fn headers(fields: &[(&str, &str)]) -> HeaderList {
    let mut headers = HeaderList::new();
    for (name, value) in fields {
        assert!(headers.append(name.as_bytes(), value.as_bytes()), "{name}: {value}");
    }
    headers
}

/// The extracted values: the ids, the decision, the debug flag.
type Found = Option<(u128, u64, Option<bool>, bool)>;

fn found(fields: &[(&str, &str)], format: TraceFormat) -> Found {
    let context = extract(&headers(fields), &[format])?;
    let (trace, span) = (context.trace_id.map_or(0, TraceId::get), context.span_id.map_or(0, SpanId::get));
    Some((trace, span, context.sampled, context.debug))
}

fn check(format: TraceFormat, cases: &[(&[(&str, &str)], Found)]) {
    for (fields, expect) in cases {
        assert_eq!(found(fields, format), *expect, "{format:?}: {fields:?}");
    }
}

fn injected(format: TraceFormat, context: &SpanContext, fields: &[(&str, &str)], received: TraceFormat) -> Vec<String> {
    let mut headers = headers(fields);
    inject(&mut headers, format, context, Some(received));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
}

fn context(sampled: bool, debug: bool) -> SpanContext {
    SpanContext { trace_id: TraceId::new(TRACE).unwrap(), span_id: SpanId::new(SPAN).unwrap(), sampled, debug }
}

#[test]
fn w3c() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let of = |sampled| Some((TRACE, SPAN, Some(sampled), false));
    let one = |value: &'static str| [("traceparent", value)];
    check(
        TraceFormat::W3c,
        &[
            (&one(PARENT), of(true)),
            (&[("TraceParent", PARENT)], of(true)),
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), of(false)),
            // Unknown flags.
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02"), of(false)),
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff"), of(true)),
            // Later versions: equally long, or longer after a dash.
            (&one("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), of(true)),
            (&one("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what.the.future"), of(true)),
            (&one("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what"), None),
            // Version 0 is never longer, and version 255 is invalid.
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"), None),
            (&one("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), None),
            // Ids that are zero, short, in upper case, or not hexadecimal.
            (&one("00-00000000000000000000000000000000-b7ad6b7169203331-01"), None),
            (&one("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"), None),
            (&one("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-001"), None),
            (&one("00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"), None),
            (&one("00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01"), None),
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"), None),
            (&one("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-101"), None),
            (&one("0-0af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01"), None),
            (&one("\u{e9}"), None),
            (&[("traceparent", PARENT), ("traceparent", PARENT)], None),
            (&[], None),
        ],
    );
    assert_eq!(
        injected(TraceFormat::W3c, &context(true, false), &[], TraceFormat::W3c),
        [format!("traceparent: {PARENT}")]
    );
    let unsampled = injected(TraceFormat::W3c, &context(false, false), &one("x"), TraceFormat::B3);
    assert_eq!(unsampled, ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"]);
}

fn state(values: &[&str], received: TraceFormat) -> Option<String> {
    let fields: Vec<_> = values.iter().map(|value| ("tracestate", *value)).collect();
    let injected = injected(TraceFormat::W3c, &context(true, false), &fields, received);
    let mut states = injected.iter().filter_map(|line| line.strip_prefix("tracestate: "));
    let state = states.next().map(str::to_owned);
    assert_eq!(states.next(), None, "{injected:?}");
    state
}

#[test]
fn tracestate_is_passed_on_within_limits() {
    let w3c = TraceFormat::W3c;
    assert_eq!(state(&["a=1, b@c=2,,x/y*z_-=! ~"], w3c).as_deref(), Some("a=1, b@c=2,,x/y*z_-=! ~"));
    assert_eq!(state(&["a=1", " ", "b=2 , c=3"], w3c).as_deref(), Some("a=1,b=2,c=3"));
    // The state belongs to another trace.
    assert_eq!(state(&["a=1"], TraceFormat::B3), None);
    for malformed in ["a", "=1", "A=1", "a=", "a=1=2", "a@b@c=1", "_a=1", "a=1,b", "a=\u{e9}", "a b=1"] {
        assert_eq!(state(&[malformed], w3c), None, "{malformed}");
    }
    let many: Vec<String> = (0..40).map(|n| format!("k{n}={n}")).collect();
    assert_eq!(state(&[&many.join(",")], w3c), Some(many[..32].join(",")));
    // The last long member is dropped first, then the last ones.
    let (long, short) = (format!("long={}", "x".repeat(196)), format!("s={}", "y".repeat(100)));
    let members = [&*long, &short, &long, "z=1"];
    assert_eq!(state(&[&members.join(",")], w3c), Some(members.join(",")), "510 bytes");
    let members = [&*long, &short, &long, "z=12345"];
    assert_eq!(state(&[&members.join(",")], w3c), Some([&*long, &short, "z=12345"].join(",")));
    let many: Vec<String> = (10..40).map(|n| format!("k{n}={}", "v".repeat(20))).collect();
    let kept = state(&[&many.join(",")], w3c).unwrap();
    assert_eq!(kept, many[..20].join(","), "25 bytes for each");
}

#[test]
fn b3() {
    let both = |decision| Some((TRACE, SPAN, decision, false));
    let single = |value: &'static str| [("b3", value)];
    let cases: &[(&[(&str, &str)], Found)] = &[
        (&single("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"), both(None)),
        (&single("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"), both(Some(true))),
        (&single("0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-0-0000000000000007"), both(Some(false))),
        (&single("8448eb211c80319c-b7ad6b7169203331-d"), Some((TRACE & u128::from(u64::MAX), SPAN, Some(true), true))),
        (&single("0"), Some((0, 0, Some(false), false))),
        (&single("1"), Some((0, 0, Some(true), false))),
        (&single("d"), Some((0, 0, Some(true), true))),
        (&single("0-1"), None),
        (&single("8448eb211c80319c"), None),
        (&single("8448eb211c80319c-"), None),
        (&single("8448eb211c80319c-b7ad6b7169203331-2"), None),
        (&single("8448eb211c80319c-b7ad6b7169203331-1-7"), None),
        (&single("8448eb211c80319c-b7ad6b7169203331-1-0000000000000007-"), None),
        (&single("0000000000000000-b7ad6b7169203331-1"), None),
        (&single("8448eb211c80319c-0000000000000000-1"), None),
        (&single("8448eb211c80319cc-b7ad6b7169203331-1"), None),
        (&single(""), None),
    ];
    check(TraceFormat::B3Single, cases);
    check(TraceFormat::B3, cases);
    let (trace, span) = (("X-B3-TraceId", "0af7651916cd43dd8448eb211c80319c"), ("x-b3-spanid", "b7ad6b7169203331"));
    check(
        TraceFormat::B3,
        &[
            (&[trace, span], both(None)),
            (&[trace, span, ("x-b3-sampled", "1"), ("x-b3-parentspanid", "?")], both(Some(true))),
            (&[trace, span, ("x-b3-sampled", "false")], both(Some(false))),
            (&[trace, span, ("x-b3-flags", "1")], Some((TRACE, SPAN, Some(true), true))),
            (&[trace, span, ("x-b3-sampled", "maybe"), ("x-b3-flags", "0")], both(None)),
            (&[("x-b3-sampled", "0")], Some((0, 0, Some(false), false))),
            (&[trace, ("x-b3-sampled", "true")], Some((0, 0, Some(true), false))),
            (&[trace], None),
            (&[trace, span, span], None),
            (&[trace, ("x-b3-spanid", "0000000000000000")], None),
            // The single header takes precedence, unless it is empty.
            (&[trace, span, ("b3", "0")], Some((0, 0, Some(false), false))),
            (&[trace, span, ("b3", "nonsense")], both(None)),
        ],
    );
    let inject =
        |format, sampled, debug| injected(format, &context(sampled, debug), &[("X-B3-ParentSpanId", "1")], format);
    let ids = ["X-B3-TraceId: 0af7651916cd43dd8448eb211c80319c", "X-B3-SpanId: b7ad6b7169203331"];
    assert_eq!(inject(TraceFormat::B3, true, false), [ids[0], ids[1], "X-B3-Sampled: 1"]);
    assert_eq!(inject(TraceFormat::B3, false, false), [ids[0], ids[1], "X-B3-Sampled: 0"]);
    assert_eq!(inject(TraceFormat::B3, true, true), [ids[0], ids[1], "X-B3-Flags: 1"]);
    let short = SpanContext { trace_id: TraceId::new(0xab).unwrap(), ..context(true, true) };
    assert_eq!(
        injected(TraceFormat::B3Single, &short, &single("1"), TraceFormat::B3Single),
        ["b3: 00000000000000ab-b7ad6b7169203331-d"],
        "an id of 64 bits stays one"
    );
}

#[test]
fn datadog() {
    let trace = ("x-datadog-trace-id", "9532127138774266268");
    let parent = ("x-datadog-parent-id", "13235353014750950193");
    let lower = TRACE & u128::from(u64::MAX);
    let priority = |value: &'static str| ("x-datadog-sampling-priority", value);
    let upper = ("x-datadog-tags", "_dd.p.dm=-4, _dd.p.tid=0af7651916cd43dd,x=y");
    check(
        TraceFormat::Datadog,
        &[
            (&[trace, parent], Some((lower, SPAN, None, false))),
            (&[trace, parent, upper, priority("1")], Some((TRACE, SPAN, Some(true), false))),
            (&[trace, parent, priority("2")], Some((lower, SPAN, Some(true), true))),
            (&[trace, parent, priority("0")], Some((lower, SPAN, Some(false), false))),
            (&[trace, parent, priority("-1")], Some((lower, SPAN, Some(false), false))),
            (&[trace, priority("x")], Some((lower, 0, None, false))),
            (&[trace, ("x-datadog-parent-id", "0")], Some((lower, 0, None, false))),
            (&[trace, ("x-datadog-tags", "_dd.p.tid=1")], Some((lower, 0, None, false))),
            (&[("x-datadog-trace-id", "0")], None),
            (&[("x-datadog-trace-id", "18446744073709551616")], None),
            (&[("x-datadog-trace-id", "-1")], None),
            (&[parent, priority("1")], None),
        ],
    );
    let ids = ["x-datadog-trace-id: 9532127138774266268", "x-datadog-parent-id: 13235353014750950193"];
    assert_eq!(
        injected(TraceFormat::Datadog, &context(true, true), &[upper], TraceFormat::Datadog),
        [
            ids[0],
            ids[1],
            "x-datadog-sampling-priority: 2",
            "x-datadog-tags: _dd.p.tid=0af7651916cd43dd,_dd.p.dm=-4,x=y"
        ]
    );
    assert_eq!(
        injected(TraceFormat::Datadog, &context(false, false), &[upper], TraceFormat::W3c),
        [ids[0], ids[1], "x-datadog-sampling-priority: 0", "x-datadog-tags: _dd.p.tid=0af7651916cd43dd"]
    );
    let long = format!("a={},b=c", "x".repeat(600));
    let kept =
        injected(TraceFormat::Datadog, &context(true, false), &[("x-datadog-tags", &long)], TraceFormat::Datadog);
    assert_eq!(kept[3], "x-datadog-tags: _dd.p.tid=0af7651916cd43dd,b=c");
}

#[test]
fn formats_of_single_systems() {
    let one = |name: &'static str, value: &'static str| [(name, value)];
    let jaeger = |value| one("uber-trace-id", value);
    let of = |sampled: bool| Some((TRACE, SPAN, Some(sampled), false));
    check(
        TraceFormat::Jaeger,
        &[
            (&jaeger("af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1"), of(true)),
            (&jaeger("0af7651916cd43dd8448eb211c80319c%3Ab7ad6b7169203331%3a0%3A0"), of(false)),
            (&jaeger("af7651916cd43dd8448eb211c80319c:0:0:3"), Some((TRACE, 0, Some(true), true))),
            (&jaeger("0:1:0:1"), None),
            (&jaeger("1:1:0"), None),
            (&jaeger("1:1:0:1:1"), None),
            (&jaeger("1:11111111111111111:0:1"), None),
            (&jaeger("::::"), None),
        ],
    );
    let (trace, span) = (("ot-tracer-traceid", "8448eb211c80319c"), ("ot-tracer-spanid", "b7ad6b7169203331"));
    let lower = TRACE & u128::from(u64::MAX);
    check(
        TraceFormat::Ot,
        &[
            (&[trace, span, ("ot-tracer-sampled", "true")], Some((lower, SPAN, Some(true), false))),
            (&[trace, span, ("ot-tracer-sampled", "0")], Some((lower, SPAN, Some(false), false))),
            (&[trace, span], Some((lower, SPAN, None, false))),
            (&[trace], None),
        ],
    );
    let aws = |value| one("x-amzn-trace-id", value);
    check(
        TraceFormat::Aws,
        &[
            (&aws("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"), of(true)),
            (&aws("Sampled=0; Self=x; Parent=b7ad6b7169203331; Root=1-0af76519-16cd43dd8448eb211c80319c"), of(false)),
            (&aws("Root=1-0af76519-16cd43dd8448eb211c80319c"), Some((TRACE, 0, None, false))),
            (&aws("Root=1-0af76519-16cd43dd8448eb211c80319c;Sampled=?"), Some((TRACE, 0, None, false))),
            (&aws("Root=1-0af7651-916cd43dd8448eb211c80319c"), None),
            (&aws("Root=1-00000000-000000000000000000000000"), None),
            (&aws("Root=1-0af"), None),
            (&aws("Parent=b7ad6b7169203331"), None),
        ],
    );
    let gcp = |value| one("x-cloud-trace-context", value);
    check(
        TraceFormat::Gcp,
        &[
            (&gcp("0af7651916cd43dd8448eb211c80319c/13235353014750950193;o=1"), of(true)),
            (&gcp("0af7651916cd43dd8448eb211c80319c/13235353014750950193;o=0"), of(false)),
            (&gcp("0af7651916cd43dd8448eb211c80319c"), Some((TRACE, 0, None, false))),
            (&gcp("0af7651916cd43dd8448eb211c80319c/x;o=1"), None),
            (&gcp("af7651916cd43dd8448eb211c80319c/1"), None),
        ],
    );
}

#[test]
fn the_first_format_that_is_found_counts() {
    let fields = headers(&[("b3", "0"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]);
    let format = |formats: &[TraceFormat]| extract(&fields, formats).map(|context| context.format);
    assert_eq!(format(&[TraceFormat::Datadog, TraceFormat::W3c, TraceFormat::B3]), Some(TraceFormat::W3c));
    assert_eq!(format(&[TraceFormat::B3, TraceFormat::W3c]), Some(TraceFormat::B3Single), "where it was");
    assert_eq!(format(&[TraceFormat::Datadog]), None);
    assert_eq!(format(&[]), None);
}

#[test]
fn ids_are_random_and_never_zero() {
    assert_eq!((TraceId::random(|| 0).get(), SpanId::random(|| 0).get()), (1, 1));
    let mut rng = SeededRng::new(7);
    assert_ne!(TraceId::random(|| rng.next_u64()), TraceId::random(|| rng.next_u64()));
    assert_eq!(TraceId::new(TRACE).unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(SpanId::new(0xab).unwrap().to_string(), "00000000000000ab");
}

proptest! {
    #[test]
    fn what_is_injected_is_extracted(
        trace in 1_u128.., span in 1_u64.., short in any::<bool>(), sampled in any::<bool>(), debug in any::<bool>(),
        before in 1_u128..,
    ) {
        let trace = if short { (trace & u128::from(u64::MAX)).max(1) } else { trace };
        let trace = if trace & u128::from(u64::MAX) == 0 { trace | 1 } else { trace };
        let id = |trace| TraceId::new(trace).unwrap();
        let context = SpanContext {
            trace_id: id(trace), span_id: SpanId::new(span).unwrap(), sampled, debug: debug && sampled,
        };
        let mut headers = HeaderList::new();
        for format in TraceFormat::ALL {
            inject(&mut headers, format, &SpanContext { trace_id: id(before), ..context }, None);
            inject(&mut headers, format, &context, Some(format));
        }
        for format in TraceFormat::ALL {
            let found = extract(&headers, &[format]).unwrap();
            let has_debug = !matches!(format, TraceFormat::W3c | TraceFormat::Ot | TraceFormat::Aws | TraceFormat::Gcp);
            prop_assert_eq!(found.trace_id, Some(context.trace_id), "{:?}", format);
            prop_assert_eq!(found.span_id, Some(context.span_id));
            prop_assert_eq!((found.sampled, found.debug), (Some(sampled), context.debug && has_debug));
        }
        let names: std::collections::HashSet<_> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        prop_assert_eq!(names.len(), headers.len(), "each header once");
    }
}
