use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{AccessAction, AccessRule, Authorization, ClientMatch, Refusal, RefusalMessage};
use cardinal_sdk::testing::{Bench, lower};
use serde_json::{Value, json};

use super::PLUGIN;

#[test]
fn lists_are_rules() {
    let rule = |action, networks: &[&str]| AccessRule {
        action,
        clients: networks.iter().map(|text| ClientMatch::Network(text.parse().unwrap())).collect(),
        ..AccessRule::default()
    };
    let message = RefusalMessage::WithClientAddress("IP address not allowed: ".into());
    let policy = |rules, allow_by_default, refusal| {
        Ok(Some(PolicySpec::Authorization(Authorization {
            rules,
            allow_by_default,
            refusal,
            ..Authorization::default()
        })))
    };
    let deny = rule(AccessAction::Deny, &["10.0.0.1/32", "2001:db8::/32"]);
    let allow = rule(AccessAction::Allow, &["10.0.0.0/8"]);
    let refusal = || Refusal { status: 403, message: message.clone() };
    let config = json!({"deny": ["10.0.0.1", "2001:db8::/32"]});
    assert_eq!(lower(&PLUGIN, &config), policy(vec![deny.clone()], true, refusal()));
    let config = json!({"allow": ["10.0.0.0/8"], "deny": ["10.0.0.1", "2001:db8::/32"]});
    assert_eq!(lower(&PLUGIN, &config), policy(vec![deny, allow.clone()], false, refusal()));
    let config = json!({"allow": ["10.0.0.0/8"], "deny": [], "status": 401, "message": "Go away"});
    let refusal = Refusal { status: 401, message: RefusalMessage::Text("Go away".into()) };
    assert_eq!(lower(&PLUGIN, &config), policy(vec![allow], false, refusal));
}

#[tokio::test]
async fn what_cannot_be_used_is_said() {
    let services = cardinal_sdk::testing::services(Bench::new(&PLUGIN, json!({"deny": []})).clock);
    for status in [0.0, 199.0, 600.0, 403.5, -1.0] {
        let config = json!({"deny": ["::1"], "status": status});
        assert!(cardinal_sdk::testing::build(&PLUGIN, config, &services).is_err(), "{status}");
    }
    for bad in ["", "x", "1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4/-1", "localhost"] {
        assert!(cardinal_sdk::testing::build(&PLUGIN, json!({"deny": [bad]}), &services).is_err(), "{bad}");
    }
}

#[test]
fn a_list_is_needed() {
    let check = super::schema::config().outer_checks.remove(0);
    let schema = cardinal_schema::record([cardinal_schema::field("config", super::schema::config())]).check(check);
    let process = |config: Value| schema.process(&json!({"config": config}), &Default::default());
    assert!(process(json!({"deny": ["::1"]})).is_ok());
    let errors = process(json!({})).unwrap_err().to_json().to_string();
    assert!(
        errors.contains("at least one of these fields must be non-empty: 'config.allow', 'config.deny'"),
        "{errors}"
    );
}
