use bytes::Bytes;
use cardinal_ir::PolicySpec;
use cardinal_plugins_security::request_termination::PLUGIN;
use cardinal_sdk::testing;
use serde_json::{Value, json};

use super::*;
use crate::policy::tests::{bench, bench_of, built};

fn said(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "pass".to_owned() };
    let status = reply.status;
    match (&reply.body, reply.headers.get_str("content-type")) {
        (ReplyBody::Empty, None) => format!("{status}"),
        (ReplyBody::Message(text), None) => format!("{status} message {text}"),
        (ReplyBody::Bytes(bytes), None) => format!("{status} {}", String::from_utf8_lossy(bytes)),
        (ReplyBody::Bytes(bytes), Some(kind)) => format!("{status} {kind} {}", String::from_utf8_lossy(bytes)),
        other => panic!("{other:?}"),
    }
}

async fn check(config: Value, target: &str, headers: &[(&str, &str)], expect: &str) {
    let mut bench = bench(&PLUGIN, config.clone());
    bench.get(target);
    for (name, value) in headers {
        bench.header(name, value);
    }
    assert_eq!(said(bench.request().await.as_ref()), expect, "{config} {target} {headers:?}");
}

#[tokio::test]
async fn fixed_answers() {
    check(json!({}), "/", &[], "503 message Service unavailable").await;
    check(json!({"status_code": 404}), "/", &[], "404 message Not found").await;
    check(json!({"status_code": 405}), "/", &[], "405 message Method not allowed").await;
    check(json!({"status_code": 406, "message": "Invalid"}), "/", &[], "406 message Invalid").await;
    check(json!({"status_code": 406}), "/", &[], "406").await;
    check(json!({"status_code": 204, "message": "x"}), "/", &[], "204").await;
    check(json!({"body": "<h1>"}), "/", &[], "503 <h1>").await;
    let html = json!({"status_code": 451, "body": "<h1>", "content_type": "text/html"});
    check(html, "/", &[], "451 text/html <h1>").await;
}

#[tokio::test]
async fn triggers() {
    let config = || json!({"status_code": 418, "trigger": "x_stop"});
    check(config(), "/", &[], "pass").await;
    check(config(), "/?x=x_stop&X_STOP=1&x-stop", &[], "pass").await;
    check(config(), "/?x%5Fstop", &[], "418").await;
    check(config(), "/?x_stop=", &[], "418").await;
    check(config(), "/", &[("X-Stop", "")], "418").await;
    check(config(), "/", &[("X_stop", "1")], "418").await;
}

#[tokio::test]
async fn echoes() {
    let mut bench = bench(&PLUGIN, json!({"echo": true, "status_code": 404}));
    bench.get("/status/200?hello=there&a=1&a=2&b&c=%ff").header("X-A", "1").header("x-a", "2");
    bench.header("content-type", "application/json; charset=utf-8");
    bench.body = Bytes::from_static(br#"{"k":[1]}"#);
    bench.exchange.captures.numbered = vec![Some("/status".into()), Some("status".into()), None];
    bench.exchange.captures.named = vec![("parameter".into(), "status".into())];
    bench.exchange.route = Some(testing::route(Default::default(), None, r#"{"hosts":["example.com"]}"#));
    let reply = bench.request().await.unwrap();
    assert_eq!(reply.headers.get_str("content-type"), Some("application/json; charset=utf-8"));
    let ReplyBody::Bytes(bytes) = reply.body else { panic!("{:?}", reply.body) };
    let mut copy: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(copy["kong"]["hostname"], "test");
    assert_eq!(copy["kong"]["node_id"], bench.services.node_id.to_string());
    assert!(copy["kong"]["worker_pid"].as_u64().is_some_and(|pid| pid > 0));
    copy.as_object_mut().unwrap().remove("kong");
    assert_eq!(
        copy,
        json!({
            "message": "Not found",
            "matched_route": {"hosts": ["example.com"]},
            "request": {
                "scheme": "http",
                "host": "example.com",
                "port": 8000,
                "method": "GET",
                "path": "/status/200",
                "headers": {
                    "host": "example.com",
                    "x-a": ["1", "2"],
                    "content-type": "application/json; charset=utf-8",
                },
                "query": {"hello": "there", "a": ["1", "2"], "b": true, "c": "\u{fffd}"},
                "raw_body": "{\"k\":[1]}",
                "body": {"k": [1]},
                "uri_captures": {"named": {"parameter": "status"}, "unnamed": ["status", null]},
            },
        })
    );
}

#[tokio::test]
async fn responses_have_their_fields() {
    let headers = vec![("X-A".into(), "1".into()), ("X-A".into(), "2".into())];
    let respond = |status, body| PolicySpec::Respond(Respond { status, headers: headers.clone(), body, trigger: None });
    for (status, body, expect) in [
        (200, RespondBody::Text("t".into()), 1),
        (204, RespondBody::Text("t".into()), 0),
        (304, RespondBody::Message("t".into()), 0),
        (404, RespondBody::Empty, 0),
        (599, RespondBody::Echo { message: None, node_key: "".into() }, 1),
    ] {
        let mut bench = bench_of(respond(status, body.clone()));
        let reply = bench.request().await.unwrap();
        assert_eq!(reply.headers.get_all(b"x-a").count(), 2, "{body:?}");
        assert_eq!((reply.status, i32::from(!matches!(reply.body, ReplyBody::Empty))), (status, expect), "{body:?}");
        if let ReplyBody::Bytes(bytes) = &reply.body {
            assert!(!String::from_utf8_lossy(bytes).contains("node_id"), "{body:?}");
        }
    }
    let bench = bench_of(respond(200, RespondBody::Empty));
    let refused = |respond: Respond| {
        built(&PolicySpec::Respond(respond), 0, &bench.services).err().map(|error| error.path).unwrap_or_default()
    };
    assert_eq!(refused(Respond { status: 100, ..Respond::default() }), "spec.status");
    assert_eq!(refused(Respond { headers: vec![("a".into(), "\r\n".into())], ..Respond::default() }), "spec.headers");
}
