use serde_json::{Value, json};

use super::{OrderReport, order_report, why_first};
use crate::declarative::{Snapshot, load_value};
use crate::entities::Registry;
use crate::rank::RouteOrder;
use crate::settings::{RouterFlavor, Settings};

fn snapshot(routes: Value, settings: &Settings) -> Snapshot {
    let registry = Registry::with_flavor(&[], settings.router_flavor);
    load_value(&json!({ "_format_version": "3.0", "routes": routes }), &registry, settings).unwrap()
}

fn report(routes: Value) -> OrderReport {
    let settings = Settings::default();
    order_report(&snapshot(routes, &settings), &settings)
}

fn pairs(routes: Value) -> Vec<(String, String)> {
    report(routes).pairs.into_iter().map(|pair| (pair.kong.label, pair.documented.label)).collect()
}

#[test]
fn pairs_whose_order_differs_are_named() {
    let found = pairs(json!([
        { "name": "regex", "paths": ["~/a/\\d+"] },
        { "name": "both", "paths": ["/a"], "methods": ["GET"] },
        { "name": "elsewhere", "paths": ["/b"], "methods": ["GET"] },
        { "name": "third", "paths": ["/a/b"] },
    ]));
    assert_eq!(found, [("routes \"regex\"".to_owned(), "routes \"both\"".to_owned())]);
    // Nothing differs, or nothing matches both.
    assert!(pairs(json!([{ "paths": ["/a"] }, { "paths": ["/a"], "methods": ["GET"] }])).is_empty());
    let hosts = json!([
        { "hosts": ["a.test"], "paths": ["~/a"] },
        { "hosts": ["b.test"], "paths": ["/a"], "methods": ["GET"] },
    ]);
    assert!(pairs(hosts).is_empty());
    let settings = Settings { router_flavor: RouterFlavor::Traditional, ..Settings::default() };
    let routes = json!([{ "paths": ["~/a"] }, { "paths": ["/a"], "methods": ["GET"] }]);
    assert_eq!(order_report(&snapshot(routes, &settings), &settings), OrderReport::default());
}

#[test]
fn the_search_among_many_routes_ends() {
    let mut routes = Vec::new();
    for number in 0..3_000 {
        routes.push(json!({ "name": format!("r{number}"), "paths": [format!("~/r{number}/\\d+")] }));
        routes.push(json!({ "name": format!("m{number}"), "paths": [format!("/m{number}")], "methods": ["GET"] }));
    }
    let settings = Settings::default();
    let snapshot = snapshot(json!(routes), &settings);
    let found = order_report(&snapshot, &settings);
    assert!(found.pairs.is_empty() && found.is_cut);
}

#[test]
fn the_deciding_criterion_is_named() {
    let check = |flavor, order, winner: Value, loser: Value, expect: &str| {
        let settings = Settings { router_flavor: flavor, router_order: order, ..Settings::default() };
        let (mut winner, mut loser) = (winner, loser);
        winner["name"] = json!("winner");
        loser["name"] = json!("loser");
        let snapshot = snapshot(json!([winner, loser]), &settings);
        let id = |name| snapshot.of("routes").find(|entity| entity.text("name") == Some(name)).unwrap().id;
        let (winner, loser) = (id("winner"), id("loser"));
        let why = why_first(&snapshot, &settings, (&winner, &winner), (&loser, &loser));
        assert_eq!(why.as_deref(), Some(expect));
    };
    use RouteOrder::{Documented, Kong};
    use RouterFlavor::{Expressions, Traditional, TraditionalCompatible};
    let both = || json!({ "paths": ["/a"], "methods": ["GET"] });
    let regex = || json!({ "paths": ["~/a"] });
    check(TraditionalCompatible, Kong, regex(), both(), "has a regular expression as path");
    check(TraditionalCompatible, Documented, both(), regex(), "has more kinds of conditions (2 against 1)");
    check(
        TraditionalCompatible,
        Kong,
        json!({ "paths": ["/ab"] }),
        json!({ "paths": ["/a"] }),
        "has the longer path (3 against 2)",
    );
    check(
        TraditionalCompatible,
        Kong,
        json!({ "hosts": ["a.b"] }),
        json!({ "hosts": ["*.b"] }),
        "has plain hosts only",
    );
    let priority = json!({ "paths": ["~/a"], "regex_priority": 2 });
    check(Traditional, Kong, priority, regex(), "has the higher regex_priority (2 against 0)");
    let aged = |at: u32| json!({ "paths": ["/a"], "created_at": at });
    check(Traditional, Kong, aged(1), aged(2), "was created earlier");
    let host = json!({ "hosts": ["a.b"] });
    let kinds = "has kinds of conditions that go first (host, header, path, method, server name)";
    check(Traditional, Kong, host, regex(), kinds);
    let expression = |priority: u32| json!({ "expression": "http.path ^= \"/\"", "priority": priority });
    check(Expressions, Kong, expression(2), expression(1), "has the higher priority");
    check(Expressions, Kong, expression(0), both(), "has an expression, which goes before plain fields");
}
