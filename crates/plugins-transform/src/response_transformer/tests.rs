use cardinal_http::ResponseHead;
use cardinal_sdk::testing::Bench;
use cardinal_sdk::{BodyMode, Source};
use serde_json::{Value, json};

use super::PLUGIN;

#[tokio::test]
async fn headers_are_transformed_in_order() {
    let check = |config: Value, fields: &[(&str, &str)], expect: &str| {
        let mut bench = Bench::new(&PLUGIN, config.clone());
        let mut head = ResponseHead::new(200);
        for (name, value) in fields {
            head.headers.append(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(bench.response(&mut head, Source::Upstream), BodyMode::Pass);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found: Vec<_> = head.headers.iter().map(|(n, v)| format!("{}: {}", text(n), text(v))).collect();
        assert_eq!(found.join(", "), expect, "{config}");
    };
    let of = |group: &str, list: Value| json!({ group: { "headers": list } });
    check(of("remove", json!(["x-a"])), &[("X-A", "1"), ("X-B", "2"), ("x-a", "3")], "X-B: 2");
    check(of("rename", json!(["X-A:X-N"])), &[("x-a", "1"), ("x-a", "2"), ("x-n", "0")], "X-N: 1, X-N: 2");
    check(of("replace", json!(["X-A:new:er", "X-B:no", "x-c:"])), &[("x-a", "1"), ("x-c", "3")], "X-A: new:er, x-c: 3");
    check(of("add", json!(["X-A:no", "X-B:yes"])), &[("x-a", "1")], "x-a: 1, X-B: yes");
    check(of("append", json!(["X-A:2", "X-B:3"])), &[("x-a", "1")], "x-a: 1, X-A: 2, X-B: 3");
    let removed_and_added = json!({"remove": {"headers": ["x-a"]}, "add": {"headers": ["x-a:2"]}});
    check(removed_and_added, &[("x-a", "1")], "");
}

/// The body that the client gets; `None` when it passes unseen.
fn transformed(config: &Value, content_type: &str, body: &str) -> Option<String> {
    let mut bench = Bench::new(&PLUGIN, config.clone());
    let mut head = ResponseHead::new(200);
    head.headers.append(b"Content-Type", content_type.as_bytes());
    head.headers.append(b"Content-Length", body.len().to_string().as_bytes());
    let mode = bench.response(&mut head, Source::Upstream);
    assert_eq!(head.headers.contains(b"content-length"), mode == BodyMode::Pass);
    (mode != BodyMode::Pass).then(|| {
        let out = bench.body_part(&head, body.as_bytes(), true);
        String::from_utf8(out.to_vec()).unwrap()
    })
}

fn of(group: &str, list: &[&str], types: &[&str]) -> Value {
    json!({ group: { "json": list, "json_types": types } })
}

#[tokio::test]
async fn fields_of_json_objects_are_transformed_in_place() {
    let check = |config: Value, body: &str, expect: &str| {
        assert_eq!(transformed(&config, "application/json", body).as_deref(), Some(expect), "{config} {body}");
    };
    check(json!({"remove": {"json": ["a"]}}), r#"{"z":1,"a":2,"b":3}"#, r#"{"z":1,"b":3}"#);
    check(json!({"rename": {"json": ["a:n", "x:y"]}}), r#"{"a":null,"b":{},"n":0}"#, r#"{"n":null,"b":{}}"#);
    check(of("replace", &["a:5", "b:6", "c:7"], &[]), r#"{"a":1,"b":false}"#, r#"{"a":"5","b":false}"#);
    let typed = of(
        "add",
        &["n:-4.5", "i:0x10", "t:true", "f:yes", "s:a\"/b", "bad:x"],
        &["number", "number", "boolean", "boolean", "string", "number"],
    );
    check(typed, "{}", r#"{"n":-4.5,"i":16,"t":true,"f":false,"s":"a\"/b"}"#);
    check(of("add", &["a:1", "b:2"], &[]), r#"{"a":null,"b":false}"#, r#"{"a":null,"b":"2"}"#);
    let appended = r#"{"a":["x",1],"b":[0,2],"c":["3"],"d":{}}"#;
    let config = of("append", &["a:1", "b:2", "c:3", "d:4"], &["number", "number"]);
    check(
        config,
        r#"{"a":"x","b":[0],"d":{}}"#,
        appended.replace(r#""c":["3"],"d":{}"#, r#""d":{},"c":["3"]"#).as_str(),
    );
    check(of("add", &["a:1"], &[]), "[1]", "[1]");
    check(of("add", &["a:1"], &[]), "{broken", "{broken");
    check(of("add", &["a:1"], &[]), "", "");
}

#[tokio::test]
async fn only_json_is_touched() {
    let config = of("add", &["a:1"], &[]);
    for json in
        ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/x, application/json"]
    {
        assert_eq!(transformed(&config, json, "{}").as_deref(), Some(r#"{"a":"1"}"#), "{json}");
    }
    for other in ["text/json", "application/jsonp", "text/plain"] {
        assert_eq!(transformed(&config, other, "{}"), None, "{other}");
    }
}

#[test]
fn configurations_are_checked() {
    let check = |config: Value, expect: &str| {
        let error = (PLUGIN.schema)().process(&config, &Default::default()).unwrap_err();
        assert!(format!("{error:?}").contains(expect), "{error:?}");
    };
    check(json!({"add": {"headers": ["a"]}}), "invalid value: a");
    check(json!({"rename": {"headers": ["a:b c"]}}), "'b c' is not a valid header");
    check(json!({"add": {"json": ["a:1"], "json_types": ["object"]}}), "expected one of: boolean, number, string");
    let defaults = (PLUGIN.schema)().process(&json!({}), &Default::default()).unwrap();
    assert_eq!(defaults["remove"], json!({"json": [], "headers": []}));
    assert_eq!(defaults["rename"], json!({"json": [], "headers": []}));
    assert_eq!(defaults["append"], json!({"json": [], "json_types": [], "headers": []}));
}
