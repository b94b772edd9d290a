//! The decision against a naive model, and the documented order by example.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rule(workspace: &str, endpoint: &str, actions: &str, negative: bool) -> EndpointRule {
    EndpointRule::new(workspace, endpoint, Actions::parse(&json!(actions)).unwrap(), negative)
}

fn check(rules: &[EndpointRule], request: &str, expect: bool) {
    let (action, path) = request.split_once(' ').unwrap();
    let action = Action::of_method(action).unwrap();
    let path: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    assert_eq!(allows(rules, "default", &path, action), expect, "{request}");
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    check(&[], "GET /", false);
    check(&[rule("other", "*", "*", false)], "GET /services", false);
    check(&[rule("*", "/services", "read", false)], "POST /services", false);
    check(&[rule("*", "/services", "read", false)], "GET /services/s", false);
    check(&[rule("*", "/services", "read", false)], "GET /", false);
    check(&[rule("*", "/", "read", false)], "GET /", true);
}

#[test]
fn a_wildcard_is_one_segment() {
    let rules = [rule("*", "/services/*", "read", false), rule("*", "/*/x/plugins", "read", false)];
    check(&rules, "GET /services", false);
    check(&rules, "GET /services/s", true);
    check(&rules, "GET /services/s/routes", false);
    check(&rules, "GET /routes/x/plugins", true);
    check(&rules, "GET /routes/y/plugins", false);
}

#[test]
fn the_first_level_with_a_rule_decides() {
    let everywhere = rule("*", "*", "*", false);
    check(&[everywhere.clone(), rule("default", "*", "delete", true)], "DELETE /services/s", false);
    check(&[everywhere.clone(), rule("default", "*", "delete", true)], "GET /services/s", true);
    // The endpoint in any workspace comes before any endpoint in this one.
    let levels = [rule("default", "*", "*", true), rule("*", "/services", "*", false)];
    check(&levels, "POST /services", true);
    let levels = [rule("*", "/services", "*", true), rule("default", "/services", "read", false)];
    check(&levels, "GET /services", true);
    check(&levels, "POST /services", false);
    // Of the same rules of two roles, the one that denies.
    check(&[rule("*", "/a", "*", false), rule("*", "/a", "*", true)], "GET /a", false);
    check(&[rule("*", "/a/*", "*", true), rule("*", "/a/b", "*", false)], "GET /a/b", true);
    check(&[rule("*", "/*/b", "*", true), rule("*", "/a/*", "*", false)], "GET /a/b", true);
    check(&[everywhere, rule("*", "/rbac/*", "*", true)], "GET /rbac/users", false);
}

#[test]
fn actions_are_read_from_lists_and_texts() {
    let both = Actions::parse(&json!(["read", "delete"])).unwrap();
    assert_eq!(Actions::parse(&json!("delete, read")), Ok(both));
    assert_eq!((both.names(), Actions::all()), (json!(["read", "delete"]), Actions::parse(&json!("*")).unwrap()));
    for wrong in [json!("reed"), json!(["read", 1]), json!(7), json!("")] {
        assert!(Actions::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn endpoints_have_one_form() {
    for (given, expect) in [("*", "*"), ("/*", "/*"), ("services", "/services"), ("//a//b/", "/a/b"), ("", "/")] {
        assert_eq!(normalized(given), expect);
    }
}

#[test]
fn rules_about_an_entity_come_before_those_about_all() {
    let rules = |list: &[(&str, &str, bool)]| EntityRules {
        user: "u".into(),
        rules: list
            .iter()
            .map(|(id, actions, negative)| EntityRule::new(id, Actions::parse(&json!(actions)).unwrap(), *negative))
            .collect(),
    };
    let found = rules(&[("*", "read", false), ("A", "read", true), ("b", "*", false)]);
    assert!(!found.allows(Some("a"), Action::Read) && found.allows(Some("b"), Action::Delete));
    assert!(found.allows(Some("c"), Action::Read) && !found.allows(Some("c"), Action::Update));
    assert!(found.allows(None, Action::Read) && !found.allows(None, Action::Create));
    assert!(!rules(&[("a", "*", false), ("a", "read", true)]).allows(Some("a"), Action::Read));
}

/// Looks up every pattern of a path, from the most specific one to `*`, as texts.
fn naive(rules: &[(String, String, Action, bool)], workspace: &str, path: &[&str], action: Action) -> bool {
    let mut patterns = Vec::new();
    for stars in 0..1_usize << path.len() {
        let is_star = |at: usize| stars >> (path.len() - 1 - at) & 1 == 1;
        let texts: Vec<&str> = path.iter().enumerate().map(|(at, own)| if is_star(at) { "*" } else { *own }).collect();
        patterns.push(format!("/{}", texts.join("/")));
    }
    let levels = [(patterns.clone(), workspace), (patterns, "*"), (vec!["*".to_owned()], workspace)];
    for (patterns, workspace) in levels.into_iter().chain([(vec!["*".to_owned()], "*")]) {
        for pattern in patterns {
            let same =
                |rule: &&(String, String, Action, bool)| rule.0 == workspace && rule.1 == pattern && rule.2 == action;
            let found: Vec<bool> = rules.iter().filter(same).map(|rule| rule.3).collect();
            if !found.is_empty() {
                return !found.contains(&true);
            }
        }
    }
    false
}

fn endpoint() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("*")];
    let path = prop::collection::vec(segment, 0..4).prop_map(|segments| format!("/{}", segments.join("/")));
    prop_oneof![1 => Just("*".to_owned()), 4 => path]
}

proptest! {
    #[test]
    fn the_decision_is_that_of_the_model(
        rules in prop::collection::vec(
            (prop_oneof![Just("x"), Just("y"), Just("*")], endpoint(), 0..4_usize, any::<bool>()), 0..12),
        workspace in prop_oneof![Just("x"), Just("y"), Just("z")],
        path in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 0..4),
        action in 0..4_usize,
    ) {
        let rules: Vec<_> =
            rules.into_iter().map(|(w, e, a, negative)| (w.to_owned(), e, Action::ALL[a], negative)).collect();
        let built: Vec<EndpointRule> = rules
            .iter()
            .map(|(w, e, action, negative)| EndpointRule::new(w, e, [*action].into_iter().collect(), *negative))
            .collect();
        let action = Action::ALL[action];
        prop_assert_eq!(allows(&built, workspace, &path, action), naive(&rules, workspace, &path, action));
    }
}
