use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::panic::catch_unwind;
use std::sync::Arc;

use atc_router::ast::{Type, Value};
use atc_router::context::Context;
use atc_router::router::Router as Reference;
use atc_router::schema::Schema;
use cardinal_ir::{Field, Id, Literal, Matches, Op, Origin, Predicate, Rank, Route, Traffic, Wire};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{LENGTH_MAX, Mistake, parse, parse_for};
use crate::{Headers, Request, Router};

fn schema() -> Schema {
    let mut schema = Schema::default();
    let texts = ["net.protocol", "tls.sni", "http.method", "http.host", "http.path"];
    for field in texts.into_iter().chain(["http.path.segments.*", "http.headers.*", "http.queries.*"]) {
        schema.add_field(field, Type::String);
    }
    for field in ["net.src.port", "net.dst.port", "http.path.segments.len"] {
        schema.add_field(field, Type::Int);
    }
    for field in ["net.src.ip", "net.dst.ip"] {
        schema.add_field(field, Type::IpAddr);
    }
    schema
}

#[derive(Clone, Debug)]
struct Sent {
    method: &'static str,
    host: Option<&'static str>,
    path: &'static str,
    headers: Vec<&'static str>,
    query: &'static str,
    sni: Option<&'static str>,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Headers for Sent {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        for value in self.headers.iter().filter(|_| name == "x-foo") {
            if visit(value.as_bytes()).is_break() {
                return;
            }
        }
    }
}

impl Sent {
    fn view(&self) -> Request<'_> {
        Request {
            wire: Wire::Https,
            method: self.method,
            host: self.host,
            host_port: None,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            headers: self,
            sni: self.sni,
            source: self.source,
            destination: self.destination,
        }
    }

    fn context<'s>(&self, schema: &'s Schema) -> Context<'s> {
        let mut context = Context::new(schema);
        let mut text = |field: &str, value: &str| context.add_value(field, Value::String(value.to_owned()));
        text("net.protocol", "https");
        text("http.method", self.method);
        text("http.path", self.path);
        self.host.into_iter().for_each(|host| text("http.host", host));
        self.sni.into_iter().for_each(|sni| text("tls.sni", sni));
        self.headers.iter().for_each(|value| text("http.headers.x_foo", value));
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            text("http.queries.q", pair.strip_prefix("q=").unwrap());
        }
        let segments: Vec<&str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        segments.first().into_iter().for_each(|first| text("http.path.segments.0", first));
        if let Some(range) = segments.get(..2) {
            text("http.path.segments.0_1", &range.join("/"));
        }
        context.add_value("http.path.segments.len", Value::Int(i64::try_from(segments.len()).unwrap()));
        context.add_value("net.src.ip", Value::IpAddr(self.source.ip()));
        context.add_value("net.src.port", Value::Int(self.source.port().into()));
        context.add_value("net.dst.ip", Value::IpAddr(self.destination.ip()));
        context.add_value("net.dst.port", Value::Int(self.destination.port().into()));
        context
    }
}

/// What the reference engine makes of an expression: refused, or else for a request the matched length of the path.
/// `None` where it would panic, as it does at `not` and `in` with other than one space between.
fn reference(text: &str, sent: &Sent) -> Option<Result<Option<Option<usize>>, String>> {
    let (text, sent) = (text.to_owned(), sent.clone());
    let run = move || {
        let schema = schema();
        let mut router = Reference::new(&schema);
        router.add_matcher(1, Id::nil(), &text)?;
        let mut context = sent.context(&schema);
        if !router.execute(&mut context) {
            return Ok(None);
        }
        let matched = context.result.as_ref().unwrap().matches.get("http.path").map(|value| match value {
            Value::String(text) => text.len(),
            _ => unreachable!(),
        });
        Ok(Some(matched))
    };
    catch_unwind(run).ok()
}

fn ours(predicate: Predicate, sent: &Sent) -> Option<Option<usize>> {
    let route = Route {
        origin: Origin::default(),
        group: None,
        rank: Rank::default(),
        traffic: Traffic::Http,
        matches: Matches::Predicate(predicate),
        ..Route::default()
    };
    let (router, diagnostics) = Router::from_routes([(Id::nil(), Arc::new(route))]);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    router.find(&sent.view()).map(|found| found.path_len)
}

fn compare(text: &str, sent: &Sent) {
    let Some(reference) = reference(text, sent) else { return };
    let own = parse(text);
    if let Err(error) = &own
        && let Mistake::Field { name, .. } = &error.mistake
        && ["http.path.segments.", "http.headers.", "http.queries."].iter().any(|family| name.starts_with(family))
    {
        // Kong refuses these too, after the engine.
        return;
    }
    match (reference, own) {
        (Err(_), Err(_)) => {}
        (Ok(expect), Ok(predicate)) => assert_eq!(ours(predicate, sent), expect, "{text}\n{sent:?}"),
        (reference, own) => panic!("{text}\nreference: {reference:?}\nown: {own:?}"),
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let addr = (select(vec!["10.0.0.1", "10.1.2.3", "fd00::1"]), select(vec![80_u16, 443, 8]))
        .prop_map(|(ip, port)| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port));
    let host = option::of(select(vec!["a.com", "x.a.com"]));
    let path = select(vec!["/", "/a", "/a/b", "/A/b/c", "/foo/"]);
    let headers = vec(select(vec!["a", "A", "foo", ""]), 0..3);
    let query = select(vec!["", "q=a", "q=a&q=b", "q="]);
    (select(vec!["GET", "POST"]), host, path, headers, query, option::of(Just("a.com")), addr.clone(), addr).prop_map(
        |(method, host, path, headers, query, sni, source, destination)| Sent {
            method,
            host,
            path,
            headers,
            query,
            sni,
            source,
            destination,
        },
    )
}

fn operand() -> impl Strategy<Value = String> {
    let field = select(vec![
        "net.protocol",
        "tls.sni",
        "http.method",
        "http.host",
        "http.path",
        "http.path",
        "http.path.segments.0",
        "http.path.segments.0_1",
        "http.path.segments.len",
        "http.headers.x_foo",
        "http.headers.x_foo",
        "http.headers.none",
        "http.queries.q",
        "net.src.ip",
        "net.src.port",
        "net.dst.ip",
        "net.dst.port",
        "no.such",
    ]);
    let wrap = select(vec!["%", "%", "%", "lower(%)", "any(%)", "any( lower(%) )", "lower (lower(%))", "upper(%)"]);
    (field, wrap).prop_map(|(field, wrap)| wrap.replace('%', field))
}

fn comparison() -> impl Strategy<Value = String> {
    let op = select(vec!["==", "==", "!=", "~", "^=", "=^", ">", ">=", "<", "<=", "in", "not in", "contains"]);
    let text = select(vec![
        r#""a""#,
        r#""/a""#,
        r#""a.com""#,
        r#""GET""#,
        r##"r#"/a"#"##,
        r#""https""#,
        r#""^/(a|foo)""#,
        r#""b$""#,
        r#""""#,
        r#""a/b""#,
        r#""\"\\\n\r\t""#,
        r#""\x""#,
        r#""(""#,
        r#""foo"#,
        r##"r#"\d"x"#"##,
    ]);
    let other = select(vec![
        "80",
        "0x50",
        "010",
        "08",
        "-1",
        "443",
        "0",
        "99999999999999999999",
        "0x",
        "1e3",
        "10.0.0.1",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "fd00::1",
        "fd00::/8",
        "::",
        "::/0",
        "1.2.3",
        "300.0.0.1",
        "10.0.0.0/33",
        "::1/129",
        "12:",
        "1.2.3.4.5",
        "0189",
    ]);
    let matching = prop_oneof![
        (operand(), op.clone(), text),
        (operand(), op.clone(), other.clone()),
        (select(vec!["net.src.port", "http.path.segments.len"]).prop_map(str::to_owned), op.clone(), other.clone()),
        (select(vec!["net.src.ip", "net.dst.ip"]).prop_map(str::to_owned), op, other),
    ];
    (matching, select(vec![" ", "  ", "\n", "\t "]))
        .prop_map(|((left, op, right), space)| [&left, op, right].join(space))
}

fn valid_comparison() -> impl Strategy<Value = String> {
    let field = select(vec![
        "http.path",
        "http.path",
        "http.host",
        "http.method",
        "http.headers.x_foo",
        "http.queries.q",
        "tls.sni",
        "any(http.headers.x_foo)",
        "lower(http.path)",
        "any(lower(http.headers.x_foo))",
        "http.path.segments.0_1",
    ]);
    let check = select(vec![
        r#"== "/a""#,
        r#"^= "/a""#,
        r#"^= "/""#,
        r#"=^ "b""#,
        r#"contains "a""#,
        r#"!= "a""#,
        r#"~ "^/(a|foo)""#,
        r#"~ "o+""#,
        r#"== "a""#,
        r#"== "a.com""#,
        r#"== "GET""#,
        r#"== "a/b""#,
    ]);
    let text = (field, check).prop_map(|(field, check)| format!("{field} {check}"));
    let number = select(vec![
        "net.src.port == 80",
        "http.path.segments.len > 1",
        "net.dst.port <= 0x50",
        "net.src.ip in 10.0.0.0/8",
        "net.dst.ip not in 10.0.0.0/8",
        "net.src.ip != fd00::1",
    ])
    .prop_map(str::to_owned);
    prop_oneof![3 => text, 1 => number]
}

fn joined(leaf: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
    leaf.prop_recursive(4, 16, 4, |inner| {
        let parts = vec((inner, select(vec!["%", "%", "(%)", "!(%)", "! ( % )"])), 1..5);
        (parts, vec(select(vec![" && ", " || ", "||", "&&"]), 5)).prop_map(|(parts, operators)| {
            let mut text = String::new();
            for (at, (part, wrap)) in parts.iter().enumerate() {
                if at > 0 {
                    text.push_str(operators[at]);
                }
                text.push_str(&wrap.replace('%', part));
            }
            text
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn comparisons_are_taken_and_refused_alike(text in comparison(), sent in sent()) {
        compare(&text, &sent);
    }

    #[test]
    fn expressions_mean_the_same(text in joined(valid_comparison()), sent in sent()) {
        compare(&text, &sent);
    }

    #[test]
    fn damaged_expressions_are_taken_and_refused_alike(
        text in joined(valid_comparison()), sent in sent(), at in any::<prop::sample::Index>(), damage in "[ ()!&|=~\"a0:./#r]?",
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        chars.splice(at..at + 1, damage.chars());
        compare(&chars.into_iter().collect::<String>(), &sent);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}|[a-z.~\"(!) 0-9:#&|=]{0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.offset <= text.len());
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

fn fails(text: &str, at: (usize, usize, usize), message: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!((error.offset, error.line, error.column), at, "{text}: {error}");
    assert!(error.mistake.to_string().contains(message), "{error}");
}

#[test]
fn or_binds_tighter_than_and() {
    let Predicate::All(all) = parse(r#"http.path == "a" || http.path == "b" && http.path == "c""#).unwrap() else {
        panic!()
    };
    assert!(matches!(&all[..], [Predicate::Any(any), Predicate::Compare { .. }] if any.len() == 2));
}

#[test]
fn fields_and_literals() {
    let check = |text: &str, expect: (Field, Op, Literal)| match parse(text).unwrap() {
        Predicate::Compare { field, op, value, .. } => assert_eq!((field, op, value), expect, "{text}"),
        other => panic!("{other:?}"),
    };
    check("net.port == 0x1F", (Field::DestinationPort, Op::Equal, Literal::Int(31)));
    check("net.src.port >= 017", (Field::SourcePort, Op::GreaterOrEqual, Literal::Int(15)));
    check("net.src.ip not  in fd00::/8", (Field::SourceIp, Op::NotIn, Literal::Net("fd00::/8".parse().unwrap())));
    check(r#"http.headers.X_Foo == "a""#, (Field::Header("x_foo".into()), Op::Equal, Literal::Text("a".into())));
    check(r#"http.queries.Foo == "a""#, (Field::Query("Foo".into()), Op::Equal, Literal::Text("a".into())));
    check(r#"http.path.segments.1_2 == "a""#, (Field::Segments(1, 2), Op::Equal, Literal::Text("a".into())));
    check(r#"http.path.segments.2_1 == "a""#, (Field::Segments(1, 0), Op::Equal, Literal::Text("a".into())));
}

#[test]
fn mistakes_have_a_place_and_a_hint() {
    fails("", (0, 1, 1), "expected a field");
    fails("http.path == \"\u{e9}\" &&\n  htp.path == \"b\"", (23, 2, 3), "did you mean \"http.path\"?");
    fails("http.header.foo == \"b\"", (0, 1, 1), "did you mean \"http.headers.foo\"?");
    fails("nothing.like == \"b\"", (0, 1, 1), "there is no field \"nothing.like\"");
    fails("http.path.segments.x == \"b\"", (0, 1, 1), "there is no field");
    fails("http.path = \"b\"", (10, 1, 11), "expected an operator");
    fails("http.path == \"b", (14, 1, 15), "no end");
    fails("http.path == 3", (0, 1, 1), "compared with a string");
    fails("upper(http.path) == \"b\"", (0, 1, 1), "no function is called \"upper\"");
    fails("http.path ~ \"(\"", (12, 1, 13), "unclosed group");
    fails("(http.path == \"b\"", (17, 1, 18), "expected &&, || or )");
    fails("net.src.ip in 10.0.0.1/8", (14, 1, 15), "bits outside");
    let stream = parse_for("http.path == \"/\"", Traffic::Stream).unwrap_err();
    assert!(matches!(stream.mistake, Mistake::Field { .. }));
    parse_for("tls.sni == \"a\" && net.src.port > 1", Traffic::Stream).unwrap();
}

#[test]
fn length_and_depth_are_bounded() {
    let nested = |levels: usize| format!("{}http.path == \"a\"{}", "!(".repeat(levels), ")".repeat(levels));
    let deepest = parse(&nested(41)).unwrap();
    assert!(crate::predicate::Node::compile(&deepest).is_ok());
    assert_eq!(parse(&nested(5000)).unwrap_err().mistake, Mistake::TooDeep);
    assert_eq!(parse(&"any(".repeat(5000)).unwrap_err().mistake, Mistake::Expected("a field or ("));
    assert_eq!(parse(&" ".repeat(LENGTH_MAX + 1)).unwrap_err().mistake, Mistake::TooLong);
}
