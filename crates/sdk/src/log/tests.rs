use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cardinal_base::{ManualClock, Tick, UnixMillis};
use cardinal_http::{FailureKind, RequestHead, ResponseHead};
use cardinal_ir::{Id, Origin, Principal, Wire};
use serde_json::{Value, json};

use super::{record, set_field, write};
use crate::testing::{backend, route, services};
use crate::trace::{SpanContext, SpanId, TraceId};
use crate::{Client, CredentialRef, Exchange, LogCx, PrincipalEntry, RequestId, Source, TlsInfo, Try, TryState};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(Client::at(address("203.0.113.7:40000"), address("192.0.2.1:8443")));
    exchange.id = RequestId(0xabc);
    exchange.original.target = b"/a?x=1&flag&x=2".to_vec();
    exchange.original.host = "example.com".to_owned();
    exchange.route = Some(route(Id::from_u128(2), Some("r"), r#"{"id":"r-id","service":{"id":"s-id"}}"#));
    exchange.backend = Some(backend(Id::from_u128(3), None, "up", r#"{"id":"s-id","host":"up"}"#));
    exchange.timing.started = Tick::from_millis(100);
    exchange.timing.started_unix = UnixMillis(1_700_000_000_123);
    exchange.timing.filtered = Tick::from_millis(103);
    exchange.timing.ended = Tick::from_millis(160);
    exchange.bytes.received = 321;
    exchange.bytes.sent = 654;
    exchange
}

fn proxied() -> Exchange {
    let mut exchange = exchange();
    exchange.client.tls =
        Some(Arc::new(TlsInfo { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".into(), ..TlsInfo::default() }));
    exchange.client.wire = Wire::Https;
    let attempt = |state, status, port| Try {
        address: SocketAddr::from(([10, 0, 0, 1], port)),
        started: UnixMillis(1_700_000_000_126),
        tick: Tick::from_millis(103),
        balancer_us: 1_500,
        state,
        status: Some(status),
    };
    exchange.tries = vec![attempt(Some(TryState::Next), 502, 81), attempt(None, 200, 82)];
    exchange.timing.upstream_sent = Some(Tick::from_millis(104));
    exchange.timing.upstream_head = Some(Tick::from_millis(150));
    exchange.source = Source::Upstream;
    exchange.upstream_uri = b"/base/a?x=1&flag&x=2".to_vec();
    let principal = Principal {
        origin: Origin::default(),
        name: Some("ann".into()),
        custom_id: None,
        groups: Vec::new(),
        tenant: None,
        document: r#"{"id":"c-id","username":"ann"}"#.into(),
    };
    let id = Id::from_u128(9);
    exchange.identity.principal =
        Some(Arc::new(PrincipalEntry { id, record: Arc::new(principal), groups: [].into(), group_names: [].into() }));
    exchange.identity.credential = Some(CredentialRef::foreign("key-1", Some(id)));
    exchange.log_fields.push(("correlation_id", json!("c#1")));
    exchange
}

fn text_of(exchange: &Exchange, response: Option<&ResponseHead>) -> Value {
    let mut request = RequestHead::default();
    assert!(request.set_target(b"/a?x=1&flag&x=2"));
    for (name, value) in
        [("Host", "example.com"), ("AUTHORIZATION", "secret"), ("X-Two", "a"), ("x-two", "b"), ("X-Odd", "q\"\u{e9}")]
    {
        assert!(request.headers.append(name.as_bytes(), value.as_bytes()));
    }
    let services = services(Arc::new(ManualClock::default()));
    let cx = LogCx { request: &request, response, exchange, path: b"/", services: &services, slot: 0 };
    let mut text = Vec::new();
    write(&cx, &mut text);
    let parsed: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(parsed, record(&cx));
    parsed
}

fn golden(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/log/testdata").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[tokio::test]
async fn a_proxied_request_looks_as_in_kong() {
    let mut response = ResponseHead::new(200);
    response.headers.append(b"Content-Type", b"text/plain");
    response.headers.append(b"Set-Cookie", b"a=1");
    response.headers.append(b"Set-Cookie", b"b=2");
    golden("proxied.json", &text_of(&proxied(), Some(&response)));
}

#[tokio::test]
async fn a_local_answer_has_no_upstream() {
    let mut response = ResponseHead::new(404);
    response.headers.append(b"Server", b"cardinal");
    let mut exchange = exchange();
    exchange.route = None;
    exchange.backend = None;
    golden("local.json", &text_of(&exchange, Some(&response)));
}

#[tokio::test]
async fn a_stream_session_has_its_own_shape() {
    let mut exchange = exchange();
    exchange.client.wire = Wire::Tcp;
    exchange.failure = Some(FailureKind::UpstreamConnect);
    exchange.bytes.upstream_received = 7;
    exchange.bytes.upstream_sent = 8;
    golden("stream.json", &text_of(&exchange, None));
}

#[tokio::test]
async fn an_absolute_target_is_shown_from_its_path_on() {
    let mut exchange = exchange();
    for (target, uri) in [
        ("http://example.com/a", "/a"),
        ("http://example.com", "/"),
        ("/a?u=http://x/y", "/a?u=http://x/y"),
        ("*", "*"),
    ] {
        exchange.original.target = target.as_bytes().to_vec();
        assert_eq!(text_of(&exchange, None)["request"]["uri"], uri, "{target}");
    }
}

#[tokio::test]
async fn a_client_that_left_has_a_status_of_its_own() {
    let response = &text_of(&exchange(), None)["response"];
    assert_eq!(response, &json!({"status": 499, "headers": {}, "size": 654}));
}

#[test]
fn fields_are_set_by_dotted_path() {
    let check = |path: &str, value: Option<Value>, expect: Result<Value, &str>| {
        let mut record = json!({"a": {"b": 1}, "c": 2});
        let result = set_field(&mut record, path, value);
        assert_eq!(result.map(|()| record), expect.map_err(str::to_owned), "{path}");
    };
    check("x", Some(json!(1)), Ok(json!({"a": {"b": 1}, "c": 2, "x": 1})));
    check("a.z.y", Some(json!("v")), Ok(json!({"a": {"b": 1, "z": {"y": "v"}}, "c": 2})));
    check("a.b", None, Ok(json!({"a": {}, "c": 2})));
    check(r"a\.b", Some(json!(true)), Ok(json!({"a": {"b": 1}, "c": 2, "a.b": true})));
    check("c.d", Some(json!(1)), Err("'c.d' leads through something that is not an object"));
}

#[tokio::test]
async fn the_trace_is_named() {
    let mut exchange = exchange();
    exchange.trace = Some(SpanContext {
        trace_id: TraceId::new(0xab).unwrap(),
        span_id: SpanId::new(1).unwrap(),
        sampled: false,
        debug: false,
    });
    let text = text_of(&exchange, None);
    assert_eq!(text["trace_id"], json!({ "w3c": "000000000000000000000000000000ab" }));
    exchange.clear();
    assert_eq!(text_of(&exchange, None).get("trace_id"), None);
}
