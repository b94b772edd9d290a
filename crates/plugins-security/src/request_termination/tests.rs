use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{Respond, RespondBody};
use cardinal_sdk::testing::{Bench, lower};
use serde_json::{Value, json};

use super::PLUGIN;

#[test]
fn configurations_are_responses() {
    let check = |config: Value, expect: Respond| {
        assert_eq!(lower(&PLUGIN, &config), Ok(Some(PolicySpec::Respond(expect))), "{config}");
    };
    let message =
        |status, text: &str| Respond { status, body: RespondBody::Message(text.into()), ..Respond::default() };
    check(json!({}), message(503, "Service unavailable"));
    check(json!({"status_code": 404, "message": "x"}), message(404, "x"));
    check(json!({"status_code": 406}), Respond { status: 406, ..Respond::default() });
    check(json!({"status_code": 204, "message": "x"}), Respond { status: 204, ..Respond::default() });
    let html = json!({"status_code": 451, "body": "<h1>", "content_type": "text/html", "trigger": "x_stop"});
    let expect = Respond {
        status: 451,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: RespondBody::Text("<h1>".into()),
        trigger: Some("x_stop".into()),
    };
    check(html, expect);
    let body = RespondBody::Echo { message: Some("Not found".into()), node_key: "kong".into() };
    check(json!({"echo": true, "status_code": 404}), Respond { status: 404, body, ..Respond::default() });
}

#[tokio::test]
async fn what_does_not_go_together_is_said() {
    let bench = Bench::new(&PLUGIN, json!({}));
    let refused = |config: Value, why: &str| {
        let built = cardinal_sdk::testing::build(&PLUGIN, config.clone(), &bench.services).err();
        assert!(built.as_ref().is_some_and(|text| text.contains(why)), "{config} {built:?}");
    };
    refused(json!({"message": "a", "body": "b"}), "message cannot be used with content_type or body");
    refused(json!({"message": "a", "content_type": "b"}), "message cannot be used with content_type or body");
    refused(json!({"content_type": "b"}), "content_type requires a body");
    refused(json!({"echo": true, "body": "b"}), "echo cannot be used with content_type and body");
    refused(json!({"status_code": 99}), "value should be between 100 and 599");
    refused(json!({"status_code": 100}), "interim");
    refused(json!({"body": "a", "content_type": "a\nb"}), "control characters");
    refused(json!({"trigger": "a b"}), "bad header name");
}
