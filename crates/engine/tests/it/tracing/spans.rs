//! The content of spans.

use std::collections::BTreeMap;

use anyhow::Result;
use cardinal_ir::policy::{RateLimitedBackoff, ResetFormat, ResetHeader, Retry, RetryCondition};
use cardinal_ir::{Backend, SpanProtocol, SpanTag, TagValue, Telemetry};
use cardinal_testkit::{EchoServer, H1Client, ScriptedPeer, Step, WebSocket, World, free_port};
use serde_json::{Value, json};

use super::collector::Collector;
use super::proto::SpanMessage;
use super::{exporter, telemetry, world};
use crate::scene::{balanced, one, target};

/// A served file, and the collector of its spans.
struct Scene {
    world: World,
    collector: Collector,
}

impl Scene {
    async fn start(yaml: &str) -> Result<Self> {
        let collector = Collector::http(&[]).await;
        let tag = |name: &str, value| SpanTag { name: name.into(), value };
        let header = |name: &str, default: Option<&str>| TagValue::Header {
            name: name.into(),
            default: default.map(Into::into),
        };
        let record = Telemetry {
            tags: vec![
                tag("env", TagValue::Literal("prod".into())),
                tag("tenant", header("X-Tenant", Some("none"))),
                tag("beta", header("X-Beta", None)),
            ],
            resource: vec![("service.name".into(), "edge".into()), ("team".into(), "t".into())],
            ..telemetry(Some(exporter(SpanProtocol::OtlpHttp, &collector)))
        };
        Ok(Self { world: world(yaml, vec![record])?, collector })
    }

    async fn spans(&mut self) -> Result<Vec<SpanMessage>> {
        Ok(self.collector.next().await?.spans()?.0)
    }
}

fn check(span: &SpanMessage, expect: &[(&str, &str)]) {
    let attributes = span.attributes();
    let expect: BTreeMap<_, _> = expect.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    assert_eq!(attributes, expect);
}

#[tokio::test]
async fn a_proxied_request_has_the_attributes_of_the_conventions() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let mut scene = Scene::start(&one(&format!("{}/base", echo.url()), json!({}), json!({}))).await?;
    let http = scene.world.http();
    let fields = [("User-Agent", "tester/1"), ("X-Tenant", "acme"), ("X-Beta", "1")];
    let mut client = H1Client::connect(http).await?;
    assert_eq!(client.get("/a/b?secret=1", &format!("Shop.test:{}", http.port()), &fields).await?.status, 200);
    let received = scene.collector.next().await?;
    assert_eq!((&*received.method, &*received.path), ("POST", "/v1/traces"));
    assert_eq!(received.header("content-type"), Some("application/x-protobuf"));
    let (spans, resource) = received.spans()?;
    let resource: BTreeMap<_, _> = resource.into_iter().collect();
    assert_eq!((&*resource["service.name"], &*resource["team"]), ("edge", "t"));
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(!resource["service.instance.id"].is_empty());
    let [server, attempt] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((&*server.name, &*attempt.name), ("GET r", "GET r"));
    assert!(!server.is_error() && !attempt.is_error());
    assert!(server.start <= attempt.start && attempt.start <= attempt.end && attempt.end <= server.end, "{spans:?}");
    assert!(server.start > 1_600_000_000_000_000_000, "nanoseconds since 1970");
    let (peer, port) = (&server.attributes()["network.peer.port"], http.port().to_string());
    check(
        server,
        &[
            ("http.request.method", "GET"),
            ("url.path", "/a/b"),
            ("url.scheme", "http"),
            ("server.address", "shop.test"),
            ("server.port", &port),
            ("client.address", "127.0.0.1"),
            ("network.peer.address", "127.0.0.1"),
            ("network.peer.port", peer),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "tester/1"),
            ("http.route", "r"),
            ("http.response.status_code", "200"),
            ("env", "prod"),
            ("tenant", "acme"),
            ("beta", "1"),
        ],
    );
    let port = echo.address().port().to_string();
    check(
        attempt,
        &[
            ("http.request.method", "GET"),
            ("url.path", "/base/a/b"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("network.peer.address", "127.0.0.1"),
            ("network.peer.port", &port),
            ("http.response.status_code", "200"),
            ("env", "prod"),
            ("tenant", "acme"),
            ("beta", "1"),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn replies_of_the_gateway_have_a_span_of_their_own() -> Result<()> {
    let yaml = one(
        "http://127.0.0.1:1",
        json!({}),
        json!({ "paths": ["/x"], "plugins": [
        { "name": "request-termination", "config": { "status_code": 503, "message": "no" } }] }),
    );
    let mut scene = Scene::start(&yaml).await?;
    let mut client = H1Client::connect(scene.world.http()).await?;
    let cases = [
        ("GET", "/x", "GET r", "503", true),
        ("DELETE", "/none", "DELETE", "404", false),
        ("BREW", "/none", "HTTP", "404", false),
    ];
    for (method, path, name, status, is_error) in cases {
        client.request(method, path, "a", &[], b"").await?;
        let spans = scene.spans().await?;
        let [server] = &spans[..] else { panic!("{spans:?}") };
        let attributes = server.attributes();
        assert_eq!((&*server.name, &*attributes["http.response.status_code"]), (name, status));
        assert_eq!(
            (server.is_error(), attributes.get("error.type")),
            (is_error, is_error.then(|| status.to_owned()).as_ref())
        );
        assert_eq!(attributes["tenant"], "none");
        assert!(!attributes.contains_key("beta"));
        let original = attributes.get("http.request.method_original").map(String::as_str);
        assert_eq!(
            (&*attributes["http.request.method"], original),
            if method == "BREW" { ("_OTHER", Some("BREW")) } else { (method, None) }
        );
    }
    Ok(())
}

#[tokio::test]
async fn each_attempt_has_a_span() -> Result<()> {
    let (echo, dead) = (EchoServer::start("e").await, free_port());
    let targets = [target(echo.address()), target(([127, 0, 0, 1], dead).into())];
    let mut scene = Scene::start(&balanced(&targets, json!({}), json!({ "retries": 3 }))).await?;
    let mut client = H1Client::connect(scene.world.http()).await?;
    // One of two requests starts with the target that is down.
    let mut retried = None;
    for _ in 0..2 {
        let report: Value = client.get("/", "a", &[]).await?.json();
        let (_, told, _) = super::traceparent(&report)?;
        let spans = scene.spans().await?;
        assert_eq!(spans.last().map(SpanMessage::id), Some(told), "the upstream knows the attempt that reached it");
        if spans.len() > 2 {
            retried = Some(spans);
        }
    }
    let spans = retried.expect("a request that was tried again");
    let [server, first, second] = &spans[..] else { panic!("{spans:?}") };
    assert!(!server.is_error() && first.is_error() && !second.is_error());
    let (one, two) = (first.attributes(), second.attributes());
    assert_eq!((one["error.type"].as_str(), one.get("http.response.status_code")), ("upstream_connect", None));
    assert_eq!((one["server.address"].as_str(), &one["network.peer.port"]), ("u", &dead.to_string()));
    assert_eq!((one.get("http.request.resend_count"), &*two["http.request.resend_count"]), (None, "1"));
    assert_eq!((first.parent(), second.parent()), (server.id(), server.id()));
    assert!(first.id() != second.id() && first.end <= second.start, "{spans:?}");
    Ok(())
}

#[tokio::test]
async fn failures_are_named() -> Result<()> {
    let answer = |text: &str| vec![Step::until("\r\n\r\n"), Step::send(text)];
    // No response; a partial response whose beginning the client has received; a response that reports a failure.
    let part = format!("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}", "x".repeat(300_000));
    let plays =
        vec![vec![Step::until("\r\n\r\n")], answer(&part), answer("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")];
    let peer = ScriptedPeer::start(plays).await;
    let mut scene =
        Scene::start(&one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({}))).await?;
    let expect = [
        ("upstream_reset", "502", "upstream_reset", ""),
        ("upstream_reset", "200", "upstream_reset", "200"),
        ("500", "500", "500", "500"),
    ];
    for (error, status, attempt_error, attempt_status) in expect {
        let mut client = H1Client::connect(scene.world.http()).await?;
        // The second response is cut short.
        drop(client.get("/", "a", &[]).await);
        let spans = scene.spans().await?;
        let [server, attempt] = &spans[..] else { panic!("{spans:?}") };
        assert!(server.is_error() && attempt.is_error(), "{spans:?}");
        let (of_server, of_attempt) = (server.attributes(), attempt.attributes());
        assert_eq!((&*of_server["error.type"], &*of_server["http.response.status_code"]), (error, status));
        let found = of_attempt.get("http.response.status_code").map_or("", String::as_str);
        assert_eq!((&*of_attempt["error.type"], found), (attempt_error, attempt_status));
    }
    Ok(())
}

#[tokio::test]
async fn a_tunnel_is_a_span_to_its_end() -> Result<()> {
    let echo = EchoServer::start("ws").await;
    let mut scene = Scene::start(&one(&echo.url(), json!({}), json!({}))).await?;
    let client = H1Client::connect(scene.world.http()).await?;
    let mut socket = WebSocket::open(client, "/ws", "a", &[]).await?;
    socket.send_text("hello").await?;
    assert!(socket.next().await?.is_some());
    drop(socket);
    let spans = scene.spans().await?;
    let [server, attempt] = &spans[..] else { panic!("{spans:?}") };
    for span in [server, attempt] {
        assert_eq!(span.attributes()["http.response.status_code"], "101");
    }
    assert_eq!(server.end, attempt.end);
    Ok(())
}

/// The span of a dropped response ends with the response, not with the delay before the next attempt.
#[tokio::test]
async fn a_dropped_response_ends_its_span() -> Result<()> {
    let answer = |text: &str| vec![Step::until("\r\n\r\n"), Step::send(text)];
    let plays = vec![
        answer("HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        answer("HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    ];
    let peer = ScriptedPeer::start(plays).await;
    let mut collector = Collector::http(&[]).await;
    let record = telemetry(Some(exporter(SpanProtocol::OtlpHttp, &collector)));
    let yaml = one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({}));
    let mut configuration = super::configured(&yaml, vec![record])?;
    let headers = vec![ResetHeader { name: "Retry-After".into(), format: ResetFormat::Seconds }];
    let rate_limited = Some(RateLimitedBackoff { headers, max_ms: 60_000 });
    let conditions = vec![RetryCondition::Status(503)];
    let retry = Some(Retry { attempts: 1, conditions, rate_limited, ..Retry::default() }.into());
    let ir = configuration.ir_mut();
    let (id, backend) = ir.backends.iter().next().map(|(id, backend)| (*id, Backend::clone(backend))).unwrap();
    ir.backends.insert(id, Backend { retry, ..backend });
    let world = World::of(crate::plugins(), configuration)?;
    assert_eq!(H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.status, 200);
    let spans = collector.next().await?.spans()?.0;
    let [server, first, second] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((server.is_error(), first.is_error(), second.is_error()), (false, true, false));
    let status = |span: &SpanMessage| span.attributes()["http.response.status_code"].clone();
    assert_eq!((status(first), status(second)), ("503".to_owned(), "200".to_owned()));
    // There was a delay of a second between them.
    assert!(first.end + 900_000_000 <= second.start, "{spans:?}");
    Ok(())
}
