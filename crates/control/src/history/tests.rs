//! Comparisons, rollbacks and batches over a store in memory.

use std::sync::Arc;

use cardinal_base::{SeededRng, SystemClock};
use cardinal_kong::{Registry, Settings};
use cardinal_store::{Author, Key, MemoryStore};
use serde_json::{Value, json};

use super::*;
use crate::{Dao, Tenant};

fn dao() -> Dao {
    let families =
        [cardinal_plugins_auth::PLUGINS, cardinal_plugins_traffic::PLUGINS, cardinal_plugins_security::PLUGINS];
    let registry = Arc::new(Registry::new(&families.concat()));
    let clock = Arc::new(SystemClock::new());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    Dao::new(store, registry, clock, SeededRng::new(7))
}

fn tenant() -> Tenant {
    Tenant::new(Author::default())
}

/// Writes a batch, and gives the revision.
async fn write(dao: &Dao, writes: Value) -> u64 {
    let Value::Array(writes) = writes else { panic!("{writes}") };
    dao.batch(&tenant(), writes).await.unwrap().revision
}

fn put(kind: &str, key: &str, body: Value) -> Value {
    json!({"method": "put", "kind": kind, "key": key, "body": body})
}

async fn effects_of(dao: &Dao, from: u64, to: u64) -> Vec<Value> {
    let compared = diff(dao, &Settings::default(), (from, to), false).await.unwrap();
    compared.routes.iter().map(RouteEffect::to_json).collect()
}

/// Two services with a route each, at revision 1.
async fn two_routes() -> Dao {
    let dao = dao();
    let written = write(
        &dao,
        json!([
            put("services", "one", json!({"url": "http://one.test"})),
            put("services", "two", json!({"url": "http://two.test"})),
            put("routes", "a", json!({"paths": ["/a"], "service": {"name": "one"}})),
            put("routes", "b", json!({"paths": ["/b"], "service": {"name": "two"}})),
        ]),
    );
    assert_eq!(written.await, 1);
    dao
}

#[tokio::test]
async fn effects_on_routes_are_those_of_what_they_depend_on() {
    let dao = two_routes().await;
    let cases = [
        (put("services", "one", json!({"url": "http://new.test"})), vec!["a"], "backend"),
        (put("routes", "a", json!({"paths": ["/x"], "service": {"name": "one"}})), vec!["a"], "matches"),
        (
            put("routes", "a", json!({"paths": ["/a"], "strip_path": false, "service": {"name": "one"}})),
            vec!["a"],
            "options",
        ),
        (put("consumers", "anna", json!({})), vec![], ""),
    ];
    for (change, routes, aspect) in cases {
        let revision = write(&dao, json!([change])).await;
        let found = effects_of(&dao, 1, revision).await;
        let names: Vec<&str> = found.iter().map(|effect| effect["name"].as_str().unwrap()).collect();
        assert_eq!(names, routes, "{change}");
        for effect in found {
            for name in ["matches", "options", "backend"] {
                let is_set = !effect[name].is_null() && effect[name] != false;
                assert_eq!(is_set, name == aspect, "{change}: {effect}");
            }
        }
        rollback(&dao, &Author::default(), 1, false).await.unwrap();
        let newest = dao.store().status().await.unwrap().revision;
        assert_eq!(diff(&dao, &Settings::default(), (1, newest), false).await.unwrap().entities, []);
    }
}

#[tokio::test]
async fn plugins_concern_the_routes_of_their_scope() {
    let dao = two_routes().await;
    let plugin = |scope: Value| {
        let mut body = json!({"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}});
        body.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        json!({"method": "post", "kind": "plugins", "body": body})
    };
    for (scope, routes) in [
        (json!({}), vec!["a", "b"]),
        (json!({"service": {"name": "two"}}), vec!["b"]),
        (json!({"route": {"name": "a"}}), vec!["a"]),
        (json!({"route": {"name": "a"}, "service": {"name": "two"}}), vec![]),
    ] {
        let revision = write(&dao, json!([plugin(scope.clone())])).await;
        let mut names: Vec<String> = Vec::new();
        for effect in effects_of(&dao, 1, revision).await {
            assert_eq!(effect["plugins"][0]["action"], "added", "{scope}");
            names.push(effect["name"].as_str().unwrap().to_owned());
        }
        names.sort();
        assert_eq!(names, routes, "{scope}");
        rollback(&dao, &Author::default(), 1, false).await.unwrap();
    }
}

#[tokio::test]
async fn routes_come_and_go() {
    let dao = two_routes().await;
    let revision = write(&dao, json!([{"method": "delete", "kind": "routes", "key": "a"}])).await;
    let gone = effects_of(&dao, 1, revision).await;
    assert_eq!(
        (&gone[0]["action"], &gone[0]["backend"]),
        (&json!("removed"), &json!({"old": "one (one.test:80)", "new": null}))
    );
    assert_eq!(effects_of(&dao, revision, 1).await[0]["action"], "added");
    assert_eq!(effects_of(&dao, 0, 1).await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let dao = two_routes().await;
    let writes = |list: Value| list.as_array().unwrap().clone();
    for (list, status, message) in [
        (json!([put("services", "x", json!({"url": "http://x"})), put("routes", "r", json!({}))]), 400, "write 1: "),
        (json!([{"method": "delete", "kind": "services", "key": "one"}]), 409, "routes/"),
        (json!([{"method": "patch", "kind": "services", "key": "none", "body": {}}]), 404, "write 0: could not find"),
        (json!([{"method": "get", "kind": "services", "key": "one"}]), 400, "write 0: expected a method"),
        (json!([put("servces", "x", json!({}))]), 400, "there is no kind 'servces'"),
    ] {
        let fault = dao.batch(&tenant(), writes(list.clone())).await.unwrap_err();
        assert_eq!(fault.status, status, "{list}: {fault}");
        assert!(fault.to_string().contains(message), "{list}: {fault}");
    }
    assert_eq!(dao.store().status().await.unwrap().revision, 1);
    // A later write sees those before it, also twice on one entity.
    let revision = write(
        &dao,
        json!([
            {"method": "post", "kind": "consumers", "body": {"username": "anna"}},
            {"method": "patch", "kind": "consumers", "key": "anna", "body": {"custom_id": "1"}},
            {"method": "delete", "kind": "routes", "key": "a"},
            {"method": "delete", "kind": "services", "key": "one"},
            put("consumers", "bert", json!({})),
            {"method": "delete", "kind": "consumers", "key": "bert"},
        ]),
    );
    let changes = revision_changes(&dao, revision.await, false).await.unwrap();
    let mut labels: Vec<String> =
        changes.entities.iter().map(|change| format!("{} {}", change.label(), change.action.as_str())).collect();
    labels.sort();
    assert_eq!(labels, ["a removed", "anna added", "one removed"]);
}

#[test]
fn fields_are_compared_by_path_and_secrets_are_masked() {
    let registry = Registry::new(cardinal_plugins_auth::PLUGINS);
    let shown = Shown { registry: &registry, reveals: false };
    let key = Key::new("keyauth_credentials", "k");
    let old = json!({"id": "k", "key": "one", "tags": ["a"], "updated_at": 1, "inner": {"a": 1, "b": 2}});
    let new = json!({"id": "k", "key": "two", "tags": ["a"], "updated_at": 2, "inner": {"a": 1, "b": 3}});
    let change = shown.change(&key, Some(&old), Some(&new)).unwrap();
    let fields: Vec<_> = change.fields.iter().map(|field| (field.path.as_str(), &field.old, &field.new)).collect();
    let masked = json!("***");
    assert_eq!(fields, [("inner.b", &json!(2), &json!(3)), ("key", &masked, &masked)]);
    let revealed = Shown { reveals: true, ..shown }.change(&key, None, Some(&new)).unwrap();
    assert!(revealed.fields.iter().any(|field| field.path == "key" && field.new == "two"));
    assert_eq!(shown.change(&key, None, None), None);
}

#[test]
fn times_are_those_of_rfc_3339() {
    assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(time_text(1_709_208_123_045), "2024-02-29T12:02:03.045Z");
    assert_eq!(time_text(-5), "1970-01-01T00:00:00.000Z");
}
