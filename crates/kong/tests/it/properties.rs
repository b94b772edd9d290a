//! Lowering ignores the order of the input.

use cardinal_kong::{Registry, Settings, declarative, lower};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::plugins;

fn document() -> Value {
    let service = |n: usize| {
        json!({"name": format!("s{n}"), "host": format!("u{}", n % 2), "tags": [format!("t{n}")], "routes": [
            {"name": format!("r{n}"), "paths": [format!("/{n}"), "/shared"], "plugins": [
                {"name": "rate-limiting", "config": {"minute": n + 1}}]}]})
    };
    let consumer = |n: usize| {
        json!({"username": format!("c{n}"), "groups": [{"name": "gold"}, {"name": "silver"}],
            "keyauth_credentials": [{"key": format!("k{n}")}], "acls": [{"group": "a"}, {"group": "b"}]})
    };
    json!({
        "_format_version": "3.0",
        "services": (0..4).map(service).collect::<Vec<_>>(),
        "upstreams": [{"name": "u0", "targets": [{"target": "a:1"}, {"target": "b:2"}]}, {"name": "u1"}],
        "consumers": (0..4).map(consumer).collect::<Vec<_>>(),
        "consumer_groups": [{"name": "silver"}, {"name": "gold"}],
        "plugins": [
            {"name": "key-auth"},
            {"name": "rate-limiting", "service": "s1", "consumer": "c1", "config": {"minute": 1}},
            {"name": "rate-limiting", "consumer_group": "gold", "config": {"minute": 2}},
            {"name": "rate-limiting", "consumer_group": "silver", "config": {"minute": 3}},
        ],
    })
}

/// Reorders every list of objects, and the keys of every object, by a seed.
fn shuffle(value: Value, seed: &mut u64) -> Value {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    };
    match value {
        Value::Array(list) if list.iter().all(Value::is_object) => {
            let mut keyed: Vec<(u64, Value)> = list.into_iter().map(|v| (next(), v)).collect();
            keyed.sort_by_key(|(k, _)| *k);
            keyed.into_iter().map(|(_, v)| shuffle(v, seed)).collect()
        }
        Value::Object(map) => {
            let mut keyed: Vec<_> = map.into_iter().map(|(k, v)| (next(), k, v)).collect();
            keyed.sort_by_key(|(k, ..)| *k);
            keyed.into_iter().map(|(_, k, v)| (k, shuffle(v, seed))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn lowering_ignores_the_order_of_the_input(mut seed in any::<u64>()) {
        let registry = Registry::new(&plugins::ALL);
        let settings = Settings::default();
        let lowered = |document: &Value| {
            let snapshot = declarative::load_value(document, &registry, &settings).unwrap_or_else(|e| panic!("{e}"));
            lower(&snapshot, &registry, &settings)
        };
        let straight = lowered(&document());
        prop_assert!(straight.2.is_empty());
        prop_assert_eq!(straight.0.routes.len(), 8);
        let shuffled = lowered(&shuffle(document(), &mut seed));
        prop_assert_eq!(straight, shuffled);
    }
}
