use std::sync::Arc;

use cardinal_schema::{Options, field, record};
use cardinal_sdk::CredentialRef;
use cardinal_sdk::testing::Bench;
use serde_json::{Value, json};

use super::PLUGIN;
use crate::fixture::{World, consumer_id, said, sent};

const FORBIDDEN: &str = "403 error You cannot consume this service";
const UNAUTHORIZED: &str = "401 error Unauthorized";

/// The sender of the request.
#[derive(Clone, Copy)]
enum Who {
    Nobody,
    Consumer(u128),
    Anonymous(u128),
    /// A credential without a consumer.
    Credential,
}

/// 1 is in `admin` and `dev`, 2 in `dev`, 3 in none.
fn bench(config: Value) -> Bench {
    let group = |world: World, consumer, name: &str| world.credential("acl", consumer, name, json!({"group": name}));
    let mut world = World::default().consumer(1, "a").consumer(2, "b").consumer(3, "c");
    world = group(world, 1, "admin");
    world = group(world, 2, "dev");
    world = group(world, 1, "dev");
    Bench::with_ir(&PLUGIN, config, &world.0)
}

async fn check(config: Value, who: Who, groups: Option<&[&str]>, expect: &str) {
    let mut bench = bench(config.clone());
    let credential = |principal| CredentialRef::foreign("x", principal);
    let principal = |bench: &Bench, n| bench.directory.principal(&consumer_id(n)).map(Arc::clone);
    let identity = &mut bench.exchange.identity;
    identity.authenticated_groups = groups.map(|g| g.iter().map(|g| (*g).into()).collect());
    match who {
        Who::Nobody => {}
        Who::Credential => identity.credential = Some(credential(None)),
        Who::Anonymous(n) => bench.exchange.identity.principal = principal(&bench, n),
        Who::Consumer(n) => {
            identity.credential = Some(credential(None));
            bench.exchange.identity.principal = principal(&bench, n);
        }
    }
    bench.header("x-consumer-groups", "forged").header("X-Authenticated-Groups", "forged");
    let said = match bench.request().await {
        Some(reply) => said(Some(&reply)),
        None => format!("[{}] [{}]", sent(&bench, "x-consumer-groups"), sent(&bench, "x-authenticated-groups")),
    };
    assert_eq!(said, expect, "{config} {groups:?}");
}

#[tokio::test]
async fn allow_lists() {
    let config = || json!({"allow": ["admin", "ops"]});
    check(config(), Who::Nobody, None, UNAUTHORIZED).await;
    check(config(), Who::Credential, None, FORBIDDEN).await;
    check(config(), Who::Consumer(1), None, "[admin, dev] []").await;
    check(config(), Who::Consumer(2), None, FORBIDDEN).await;
    check(config(), Who::Consumer(3), None, FORBIDDEN).await;
    check(config(), Who::Anonymous(1), None, "[admin, dev] []").await;
    check(config(), Who::Anonymous(2), None, FORBIDDEN).await;
    check(config(), Who::Anonymous(3), None, UNAUTHORIZED).await;
    check(json!({"allow": ["dev"]}), Who::Consumer(2), None, "[dev] []").await;
    check(json!({"allow": ["dev"], "hide_groups_header": true}), Who::Consumer(2), None, "[] []").await;
}

#[tokio::test]
async fn deny_lists() {
    let config = || json!({"deny": ["admin"]});
    check(config(), Who::Nobody, None, UNAUTHORIZED).await;
    check(config(), Who::Consumer(1), None, FORBIDDEN).await;
    check(config(), Who::Consumer(2), None, "[dev] []").await;
    check(config(), Who::Consumer(3), None, "[] []").await;
    check(config(), Who::Anonymous(3), None, "[] []").await;
}

#[tokio::test]
async fn groups_that_authentication_vouches_for() {
    let allow = || json!({"allow": ["oidc"]});
    let always = || json!({"allow": ["oidc"], "always_use_authenticated_groups": true});
    check(allow(), Who::Nobody, Some(&["oidc", "x"]), "[] [oidc, x]").await;
    check(allow(), Who::Nobody, Some(&["x"]), FORBIDDEN).await;
    check(allow(), Who::Credential, Some(&["oidc"]), "[] [oidc]").await;
    check(allow(), Who::Anonymous(1), Some(&["oidc"]), "[] [oidc]").await;
    check(allow(), Who::Consumer(1), Some(&["oidc"]), FORBIDDEN).await;
    check(always(), Who::Consumer(1), Some(&["oidc"]), "[] [oidc]").await;
    check(always(), Who::Consumer(1), Some(&[]), FORBIDDEN).await;
    check(json!({"allow": ["dev"], "always_use_authenticated_groups": true}), Who::Consumer(2), None, "[dev] []").await;
    check(json!({"deny": ["oidc"]}), Who::Nobody, Some(&["oidc"]), FORBIDDEN).await;
    check(json!({"deny": ["oidc"]}), Who::Nobody, Some(&[]), "[] []").await;
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

#[tokio::test]
async fn consumer_groups_count_where_they_are_asked_for() {
    let group = cardinal_ir::Id::from_u128(7);
    let mut world = World::default().consumer(1, "a");
    let record = world.0.principals.get(&consumer_id(1)).map(|record| (**record).clone()).unwrap();
    let record = cardinal_ir::Principal { groups: vec![group], ..record };
    world.0.principals.insert(consumer_id(1), record);
    let banks = cardinal_ir::PrincipalGroup { origin: cardinal_ir::Origin::default(), name: "Partner Banks".into() };
    world.0.groups.insert(group, banks);
    for (list, include, expected) in [
        ("allow", json!(true), "[Partner Banks] []"),
        ("allow", json!(false), FORBIDDEN),
        ("allow", Value::Null, FORBIDDEN),
        ("deny", json!(true), FORBIDDEN),
        ("deny", json!(false), "[] []"),
    ] {
        let config = json!({list: ["Partner Banks"], "include_consumer_groups": include});
        let mut bench = Bench::with_ir(&PLUGIN, config.clone(), &world.0);
        bench.exchange.identity.credential = Some(CredentialRef::foreign("x", None));
        bench.exchange.identity.principal = bench.directory.principal(&consumer_id(1)).map(Arc::clone);
        let said = match bench.request().await {
            Some(reply) => said(Some(&reply)),
            None => format!("[{}] [{}]", sent(&bench, "x-consumer-groups"), sent(&bench, "x-authenticated-groups")),
        };
        assert_eq!(said, expected, "{config}");
    }
}
