//! The order of plugins is a property of the product: users rely on what runs before what.

use cardinal::PLUGINS;

/// All plugins in the order they run, with their priorities.
const ORDER: &[(&str, i32)] = &[
    ("correlation-id", 100_001),
    ("cors", 2000),
    ("jwt", 1450),
    ("key-auth", 1250),
    ("basic-auth", 1100),
    ("hmac-auth", 1030),
    ("ip-restriction", 990),
    ("request-size-limiting", 951),
    ("acl", 950),
    ("rate-limiting", 910),
    ("request-transformer", 801),
    ("response-transformer", 800),
    ("proxy-cache", 100),
    ("prometheus", 13),
    ("http-log", 12),
    ("file-log", 9),
    ("request-termination", 2),
];

#[test]
fn the_order_is_pinned() {
    let order: Vec<(&str, i32)> = PLUGINS.iter().map(|def| (def.name, def.priority)).collect();
    assert_eq!(order, ORDER);
}

#[test]
fn each_has_a_place_of_its_own() {
    for pair in PLUGINS.windows(2) {
        assert!(pair[0].priority > pair[1].priority, "{} and {} have one priority", pair[0].name, pair[1].name);
    }
    let mut names: Vec<_> = PLUGINS.iter().map(|def| def.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PLUGINS.len());
}
