use cardinal_engine::explain::{Named, Tracing};
use cardinal_ir::Location;
use cardinal_schema::{array, boolean, field, number, record, string};
use serde_json::json;

use super::origins::leaves;
use super::*;

const FILE: &str = "\
plugins:
- name: some
  config:
    names: [a]
    nested:
      limit: 5
    token: t
";

#[test]
fn each_value_says_where_it_comes_from() {
    let nested = record([field("limit", number().default(1)), field("window", number().default(60))]);
    let schema = record([
        field("names", array(string())),
        field("hide", boolean().default(false)),
        field("unset", string()),
        field("derived", string()),
        field("token", string().encrypted()),
        field("nested", nested),
    ]);
    let config = json!({
        "names": ["a"], "hide": false, "unset": null, "derived": "x", "token": "t",
        "nested": { "limit": 5, "window": 60 },
    });
    let location = Location { file: "f.yaml".into(), line: 2, column: 3 };
    let found = leaves(&config, &schema, Some(&location), &[Source::new("f.yaml", FILE)]);
    let found: Vec<String> = found.into_iter().map(|l| format!("{}={} {}", l.path, l.value, l.origin)).collect();
    let expected = [
        r#"names=["a"] f.yaml:4"#,
        "hide=false default",
        r#"derived="x" derived from other fields"#,
        "token=(secret) f.yaml:7",
        "nested.limit=5 f.yaml:6",
        "nested.window=60 default",
    ];
    assert_eq!(found, expected);
}

#[test]
fn lines_are_requests() {
    let question = requests::question(
        r#"{"method":"PUT","url":"/x","headers":{"a":"b","c":["d","e"],"n":1},"client_ip":"::1","sni":"s"}"#,
    )
    .unwrap();
    let headers: Vec<_> = question.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    assert_eq!(headers, ["a: b", "c: d", "c: e", "n: 1"]);
    assert_eq!((question.method.as_str(), question.sni.as_deref()), ("PUT", Some("s")));
    assert_eq!(requests::question(r#"{"url":"/"}"#).unwrap().method, "GET");
    assert!(requests::question(r#"{"url":"/","header":{}}"#).unwrap_err().contains("unknown field `header`"));
    assert!(requests::question(r#"{"method":"GET"}"#).unwrap_err().contains("missing field `url`"));
    assert!(requests::question("nonsense").is_err());
}

#[test]
fn tracing_is_shown_with_its_destination() {
    let policy = Named { id: cardinal_ir::Id::nil(), name: Some("all".to_owned()) };
    let tracing = Tracing { policy, sampled: true, exporter: Some("http://c:4318/v1/traces (otlp_http)".to_owned()) };
    let decision = Decision { tracing: Some(tracing.clone()), ..Decision::default() };
    let text = tree::tracing_text(&tracing);
    assert_eq!(text, "tracing: all: sampled, spans go to http://c:4318/v1/traces (otlp_http)");
    let json = requests::json(&Question::default(), &decision, &LeftOut::of(&[]));
    let expected =
        json!({ "id": cardinal_ir::Id::nil(), "sampled": true, "exporter": "http://c:4318/v1/traces (otlp_http)" });
    assert_eq!(json["tracing"], expected);
    assert_eq!(requests::json(&Question::default(), &Decision::default(), &LeftOut::of(&[])).get("tracing"), None);
    let idle = Tracing { sampled: false, exporter: None, ..tracing };
    assert_eq!(tree::tracing_text(&idle), "tracing: all: not sampled, no spans are exported");
}
