use std::sync::Arc;

use bytes::Bytes;
use cardinal_base::ManualClock;
use cardinal_sdk::testing::{Bench, build, services};
use serde_json::{Value, json};

use super::PLUGIN;

const FORM: &str = "application/x-www-form-urlencoded";

async fn send(config: Value, target: &str, headers: &[(&str, &str)], body: &str) -> Bench {
    let mut bench = Bench::new(&PLUGIN, config);
    bench.get(target);
    for (name, value) in headers {
        bench.header(name, value);
    }
    bench.body = Bytes::copy_from_slice(body.as_bytes());
    bench.exchange.captures.named.push(("user".into(), "ann".into()));
    assert!(bench.request().await.is_none());
    bench
}

async fn check_headers(config: Value, headers: &[(&str, &str)], expect: &str) {
    let bench = send(config.clone(), "/?q=7", headers, "").await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found: Vec<_> = bench
        .request
        .headers
        .iter()
        .filter(|(name, _)| *name != b"Host")
        .map(|(name, value)| format!("{}: {}", text(name), text(value)))
        .collect();
    assert_eq!(found.join(", "), expect, "{config}");
}

#[tokio::test]
async fn headers_are_transformed_in_order() {
    let headers = |group: &str, list: Value| json!({ group: { "headers": list } });
    check_headers(headers("remove", json!(["x-a", "none", "host"])), &[("X-A", "1"), ("X-B", "2")], "X-B: 2").await;
    check_headers(headers("rename", json!(["X-A:X-N"])), &[("x-a", "1"), ("x-a", "2"), ("x-n", "0")], "X-N: 1, X-N: 2")
        .await;
    check_headers(headers("rename", json!(["x-a:X-A", "gone:here"])), &[("x-a", "1")], "X-A: 1").await;
    check_headers(
        headers("replace", json!(["X-A:new", "X-C:no", "x-b:"])),
        &[("x-a", "1"), ("x-b", "2")],
        "X-A: new, x-b: 2",
    )
    .await;
    check_headers(headers("add", json!(["X-A:no", "X-C:yes", "host:no"])), &[("x-a", "1")], "x-a: 1, X-C: yes").await;
    check_headers(headers("append", json!(["X-A:2", "X-C:3"])), &[("x-a", "1")], "x-a: 1, X-A: 2, X-C: 3").await;
    let all = json!({
        "remove": {"headers": ["x-a"]},
        "rename": {"headers": ["x-b:x-a"]},
        "replace": {"headers": ["x-a:3"]},
        "add": {"headers": ["x-b:4"]},
        "append": {"headers": ["x-b:5"]},
    });
    check_headers(all, &[("x-a", "1"), ("x-b", "2")], "x-a: 3, x-b: 4, x-b: 5").await;
}

#[tokio::test]
async fn values_may_have_expressions_that_see_the_request_as_it_came() {
    let config = json!({
        "remove": {"headers": ["x-a"]},
        "add": {"headers": ["X-B:$(headers.x_a)-$(query_params.q)-$(uri_captures.user)", "X-C:$(headers.no or 'none'):z"]},
    });
    check_headers(config, &[("X-A", "1")], "X-B: 1-7-ann, X-C: none:z").await;
    let injected = json!({"replace": {"headers": ["X-A:$(query_params.evil)"]}});
    let bench = send(injected, "/?evil=a%0d%0ab", &[("X-A", "client's")], "").await;
    assert!(!bench.request.headers.contains(b"x-a"), "neither two lines nor the client's value");
}

#[tokio::test]
async fn the_host_is_only_replaced() {
    let bench = send(json!({"replace": {"headers": ["Host:other.test"]}}), "/", &[], "").await;
    assert_eq!(bench.upstream.host(), Some("other.test"));
    let bench =
        send(json!({"append": {"headers": ["Host:other.test"]}, "add": {"headers": ["host:x"]}}), "/", &[], "").await;
    assert_eq!(bench.upstream.host(), None);
}

#[tokio::test]
async fn query_arguments_are_transformed_in_order() {
    let check = async |config: Value, query: &str, expect: Option<&str>| {
        let bench = send(config.clone(), &format!("/a{query}"), &[], "").await;
        assert_eq!(
            bench.request.query().map(|q| String::from_utf8_lossy(q).into_owned()).as_deref(),
            expect,
            "{config}"
        );
    };
    let of = |group: &str, list: Value| json!({ group: { "querystring": list } });
    check(of("remove", json!(["a"])), "?a=1&b=2&a=3", Some("b=2")).await;
    check(of("remove", json!(["a"])), "?a=1", None).await;
    check(of("rename", json!(["a:c"])), "?a=1&b=2&c=9&a=3", Some("c=1&c=3&b=2")).await;
    check(of("replace", json!(["a:x y", "n:1"])), "?a=1&a=2&b", Some("a=x%20y&b")).await;
    check(of("add", json!(["a:9", "c:$(headers.host)"])), "?a=1", Some("a=1&c=example.com")).await;
    check(of("append", json!(["a:2", "b:3"])), "?a=1&z=0", Some("a=1&a=2&z=0&b=3")).await;
    check(json!({"add": {"headers": ["x:y"]}}), "?a=%41&&b", Some("a=%41&&b")).await;
}

#[tokio::test]
async fn the_path_can_be_replaced() {
    let check = async |uri: &str, path: &str, query: Option<&str>| {
        let bench = send(json!({"replace": {"uri": uri}}), "/orig?q=1", &[], "").await;
        assert_eq!(String::from_utf8_lossy(&bench.upstream.path), path, "{uri}");
        assert_eq!(bench.request.query().map(|q| String::from_utf8_lossy(q).into_owned()).as_deref(), query, "{uri}");
    };
    check("/users/$(uri_captures.user)/$(query_params.q)", "/users/ann/1", Some("q=1")).await;
    check("/a b/%20#x", "/a%20b/%20%23x", Some("q=1")).await;
    check("/a?b=2", "/a", Some("b=2&q=1")).await;
    let mut bench = Bench::new(&PLUGIN, json!({"replace": {"uri": "$(headers.none)"}}));
    let verdict = bench.verdict().await;
    assert!(matches!(verdict, cardinal_sdk::Verdict::Fail(reason) if reason.contains("must start with /")));
}

#[tokio::test]
async fn the_method_can_be_set_and_takes_a_form_to_the_query() {
    let bench = send(json!({"http_method": "PUT"}), "/?a=1", &[("Content-Type", FORM)], "b=2").await;
    assert_eq!((bench.request.method.as_str(), bench.request.query()), ("PUT", Some(b"a=1".as_slice())));
    assert_eq!(bench.upstream.body, None, "the body is not read without need");
    let bench = send(json!({"http_method": "GET"}), "/?a=1", &[("Content-Type", FORM)], "a=2&b=3").await;
    assert_eq!(bench.request.query(), Some(b"a=1&a=2&b=3".as_slice()));
}

async fn check_body(content_type: &str, config: Value, body: &str, expect: &str) {
    let bench = send(config.clone(), "/", &[("Content-Type", content_type)], body).await;
    let found = bench.upstream.body.as_deref().map(|b| String::from_utf8_lossy(b).into_owned());
    assert_eq!(found.as_deref(), Some(expect), "{config} {body}");
}

fn of(group: &str, list: &[&str]) -> Value {
    json!({ group: { "body": list } })
}

#[tokio::test]
async fn fields_of_json_objects_are_transformed_in_place() {
    let json = "application/json; charset=utf-8";
    check_body(json, of("remove", &["a"]), r#"{"z":1,"a":2,"b":3}"#, r#"{"z":1,"b":3}"#).await;
    check_body(json, of("rename", &["a:n"]), r#"{"a":[],"b":{},"n":0}"#, r#"{"n":[],"b":{}}"#).await;
    check_body(json, of("replace", &["a:5", "b:6", "c:7"]), r#"{"a":1,"b":false}"#, r#"{"a":"5","b":false}"#).await;
    check_body(json, of("replace", &["a:5"]), r#"{"a":null}"#, r#"{"a":"5"}"#).await;
    check_body(json, of("add", &["a:5", "c:$(headers.host)"]), r#"{"a":1}"#, r#"{"a":1,"c":"example.com"}"#).await;
    check_body(json, of("add", &["a:5"]), "", r#"{"a":"5"}"#).await;
    let appended = r#"{"a":["x","1"],"b":[1,"2"],"c":["3"],"d":{}}"#;
    check_body(json, of("append", &["a:1", "b:2", "c:3", "d:4"]), r#"{"a":"x","b":[1],"c":7,"d":{}}"#, appended).await;
    check_body(json, of("add", &["a:5"]), "[1]", "[1]").await;
    check_body(json, of("add", &["a:5"]), "{broken", "{broken").await;
    check_body(json, of("remove", &["a"]), "", "").await;
}

#[tokio::test]
async fn form_fields_are_transformed_in_place() {
    check_body(FORM, of("remove", &["a"]), "a=1&b=2", "b=2").await;
    check_body(FORM, of("rename", &["a:c"]), "a=1&b=2", "c=1&b=2").await;
    check_body(FORM, of("replace", &["a:x&y"]), "a=1&b=2", "a=x%26y&b=2").await;
    check_body(FORM, of("add", &["c:3"]), "", "c=3").await;
    check_body(FORM, of("append", &["a:3"]), "a=1&b=2", "a=1&a=3&b=2").await;
}

#[tokio::test]
async fn multipart_fields_are_transformed_in_place() {
    let typed = "multipart/form-data; boundary=\"XX\"";
    let part = |head: &str, body: &str| format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let file = part("name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain", "--X\r\nline");
    let (a, end) = (part("name=\"a\"", "1"), "--XX--\r\n");
    let body = format!("{file}{a}{end}");
    let check = async |config: Value, expect: String| check_body(typed, config, &body, &expect).await;
    check(of("remove", &["a"]), format!("{file}{end}")).await;
    check(of("rename", &["a:b"]), format!("{file}{}{end}", part("name=\"b\"", "1"))).await;
    check(of("replace", &["f:2", "n:3"]), format!("{}{a}{end}", part("name=\"f\"", "2"))).await;
    check(of("add", &["a:9", "c:3"]), format!("{file}{a}{}{end}", part("name=\"c\"", "3"))).await;
    check(of("append", &["a:9"]), body.clone()).await;
    check_body(typed, of("add", &["c:3"]), "", &format!("{}{end}", part("name=\"c\"", "3"))).await;
    check_body(typed, of("remove", &["c"]), "no parts", "no parts").await;
}

#[tokio::test]
async fn other_bodies_are_not_read() {
    let bench = send(of("add", &["a:1"]), "/", &[("Content-Type", "text/plain")], "text").await;
    assert_eq!(bench.upstream.body, None);
}

#[tokio::test]
async fn a_replaced_content_type_counts() {
    let config = json!({"replace": {"headers": ["Content-Type:application/json"]}, "add": {"body": ["a:1"]}});
    check_body("text/plain", config, "{}", r#"{"a":"1"}"#).await;
}

#[tokio::test]
async fn configurations_are_checked() {
    let services = services(Arc::new(ManualClock::default()));
    let check = |config: Value, expect: &str| {
        let error = build(&PLUGIN, config.clone(), &services).err().unwrap_or_default();
        assert!(error.contains(expect), "{config}: {error}");
    };
    check(of("add", &["a"]), "key 'a' has no value");
    check(json!({"add": {"headers": ["a b:1"]}}), "'a b' is not a valid header");
    check(json!({"rename": {"headers": ["a:b c"]}}), "'b c' is not a valid header");
    check(json!({"add": {"headers": ["a"]}}), "invalid value: a");
    check(json!({"http_method": "get"}), "invalid value: get");
    check(of("add", &["a:$(os.time())"]), "config.add.body[0]: the value of 'a': cannot read the expression");
    check(json!({"replace": {"uri": "/$(x)"}}), "config.replace.uri: cannot read the expression");
    let empty = (PLUGIN.schema)().process(&json!({}), &Default::default()).unwrap();
    let group = json!({"body": [], "headers": [], "querystring": []});
    assert_eq!(empty["remove"], group);
    assert_eq!(empty["replace"], json!({"body": [], "headers": [], "querystring": [], "uri": null}));
}
