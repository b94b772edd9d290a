use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{AccessAction, AccessRule, Authorization, ClientMatch, GroupSource, Refusal, RefusalMessage};
use cardinal_schema::{Options, field, record};
use cardinal_sdk::testing::lower;
use serde_json::{Value, json};

use super::PLUGIN;

#[test]
fn lists_are_rules() {
    let rule = |action, clients| AccessRule { action, clients, ..AccessRule::default() };
    let group = |name: &str| ClientMatch::Group(name.into());
    let refusal = |status, text: &str| Refusal { status, message: RefusalMessage::Text(text.into()) };
    let source = GroupSource {
        credential_kind: "acl".into(),
        own_header: "X-Consumer-Groups".into(),
        vouched_header: "X-Authenticated-Groups".into(),
        send_headers: true,
        ..GroupSource::default()
    };
    let policy = |rules, allow_by_default, source: GroupSource| {
        Ok(Some(PolicySpec::Authorization(Authorization {
            rules,
            allow_by_default,
            shadow: false,
            refusal: refusal(403, "You cannot consume this service"),
            unidentified_refusal: Some(refusal(401, "Unauthorized")),
            groups: Some(Box::new(source)),
        })))
    };
    let allow = vec![rule(AccessAction::Allow, vec![group("a"), group("b")])];
    assert_eq!(lower(&PLUGIN, &json!({"allow": ["b", "a"]})), policy(allow, false, source.clone()));
    let deny =
        vec![rule(AccessAction::Deny, vec![ClientMatch::Unidentified]), rule(AccessAction::Deny, vec![group("a")])];
    let config = json!({"deny": ["a"], "hide_groups_header": true, "always_use_authenticated_groups": true,
        "include_consumer_groups": true});
    let other = GroupSource { principal_groups: true, vouched_first: true, send_headers: false, ..source };
    assert_eq!(lower(&PLUGIN, &config), policy(deny, true, other));
}

#[test]
fn exactly_one_list_is_given() {
    let schema = record([field("config", super::schema::config())]);
    let schema = super::schema::config().outer_checks.into_iter().fold(schema, |schema, check| schema.check(check));
    let errors = |config: Value| {
        schema.process(&json!({"config": config}), &Options::default()).err().map(|e| e.to_json().to_string())
    };
    assert_eq!(errors(json!({"allow": ["a"]})), None);
    assert!(errors(json!({})).is_some_and(|e| e.contains("exactly one") && e.contains("at least one")));
    assert!(errors(json!({"allow": ["a"], "deny": ["b"]})).is_some_and(|e| e.contains("exactly one")));
    assert_eq!(errors(json!({"allow": ["a"], "include_consumer_groups": true})), None);
    assert!(errors(json!({"include_consumer_groups": true})).is_some_and(|e| e.contains("at least one")));
    assert!(errors(json!({"allow": ["a"], "include_consumer_groups": "x"})).is_some_and(|e| e.contains("boolean")));
}
