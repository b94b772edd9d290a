use cardinal_ir::{
    Algorithm, HashInput, HostPattern, HttpVersion, Ir, Matches, Predicate, Route, Target, TlsRequired, Traffic, Wire,
};
use serde_json::json;

use super::*;
use crate::settings::RouterFlavor;
use crate::{Source, load};

fn lowered(text: &str) -> (Ir, Vec<Diagnostic>) {
    lowered_with(text, Settings::default())
}

fn lowered_with(text: &str, settings: Settings) -> (Ir, Vec<Diagnostic>) {
    let registry = Registry::with_flavor(&[], settings.router_flavor);
    let source = Source::new("kong.yaml", format!("_format_version: \"3.0\"\n{text}"));
    let snapshot = load(&[source], &registry, &settings).unwrap_or_else(|e| panic!("{}", e.render()));
    let (ir, secrets, diagnostics) = lower(&snapshot, &registry, &settings);
    assert_eq!(ir.verify(), []);
    assert_eq!(lower_owned(snapshot, &registry, &settings), (ir.clone(), secrets, diagnostics.clone()));
    (ir, diagnostics)
}

fn only_route(ir: &Ir) -> &Route {
    assert_eq!(ir.routes.len(), 1);
    ir.routes.values().next().unwrap()
}

#[test]
fn a_service_with_a_route() {
    let (ir, diagnostics) = lowered(
        "services:\n- name: a\n  url: https://Example.com/base\n  retries: 2\n  routes:\n  - name: r\n    paths: [/x]\n    \
         protocols: [https]\n    https_redirect_status_code: 301",
    );
    assert_eq!(diagnostics, []);
    let route = only_route(&ir);
    let backend = ir.backends.get(&route.action.backend().unwrap()).unwrap();
    assert_eq!(
        (backend.http, backend.retry.as_ref().map(|retry| retry.attempts), backend.path.as_deref()),
        (Some(HttpVersion::H1), Some(2), Some("/base"))
    );
    assert!(matches!(&backend.target, Target::Host(h) if &*h.host == "example.com" && h.port == 443));
    assert!(backend.tls.as_ref().is_some_and(|tls| !tls.verify));
    assert_eq!(
        (route.require.tls, route.traffic, route.rewrite.strip_path),
        (Some(TlsRequired::Moved), Traffic::Http, true)
    );
    let document: serde_json::Value = serde_json::from_str(&route.document()).unwrap();
    assert_eq!(document["service"]["id"], json!(route.action.backend().unwrap().to_string()));
    assert_eq!(document.get("snis"), None);
}

#[test]
fn disabled_services_take_their_routes_along() {
    let (ir, diagnostics) = lowered("services: [{name: a, host: h, enabled: false, routes: [{name: r, paths: [/]}]}]");
    assert!(ir.routes.is_empty() && ir.backends.is_empty() && diagnostics.is_empty());
}

#[test]
fn a_bad_entity_is_left_out_and_its_neighbours_live() {
    let text = "services:\n- {name: bad, host: h, protocol: https, ca_certificates: [58076db2-28b6-423b-ba39-a797193017f7], \
                routes: [{name: r1, paths: [/a]}]}\n- {name: good, host: h, routes: [{name: r2, paths: [/b]}]}";
    let (ir, diagnostics) = lowered(text);
    // The route keeps its match and answers 503: what it is for must not go to a route that is less particular.
    let mut routes: Vec<_> =
        ir.routes.values().map(|r| (r.origin.name.as_deref(), r.action.backend().is_some())).collect();
    routes.sort_unstable();
    assert_eq!(routes, [(Some("r1"), false), (Some("r2"), true)]);
    let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "kong.yaml:3:3: services \"bad\": ca_certificates: there is no CA certificate \
             58076db2-28b6-423b-ba39-a797193017f7",
            "kong.yaml:3:107: routes \"r1\": service: its service cannot be used: the route answers 503",
        ]
    );
}

#[test]
fn upstreams_catch_services_that_name_them() {
    let (ir, _) = lowered(
        "upstreams: [{name: u, hash_on: cookie, hash_on_cookie: c, targets: [{target: 'Host:81', weight: 0}, {target: \
         '::1'}]}]\nservices: [{name: s, host: u, port: 99}]",
    );
    let group = ir.clusters.values().next().unwrap();
    assert_eq!(group.algorithm, Algorithm::ConsistentHashing);
    assert_eq!(group.hash_on, HashInput::Cookie { name: "c".into(), path: "/".into() });
    assert_eq!((group.health.active.timeout_ms, group.health.active.concurrency), (1000, 10));
    let mut members: Vec<_> = ir.endpoints.values().map(|e| (&*e.host.host, e.host.port, e.weight)).collect();
    members.sort_unstable();
    assert_eq!(members, [("::1", 8000, 100), ("host", 81, 0)]);
    assert!(matches!(ir.backends.values().next().unwrap().target, Target::Cluster { port: 99, .. }));
}

#[test]
fn expressions_are_ranked_by_priority() {
    let settings = Settings { router_flavor: RouterFlavor::Expressions, ..Settings::default() };
    let (ir, _) = lowered_with(
        "routes:\n- {name: a, expression: 'http.path ^= \"/a\"', priority: 5}\n- {name: b, expression: 'http.path ^= \
         \"/b\"', priority: 9}\n- {name: c, paths: [/c]}",
        settings,
    );
    let mut routes: Vec<_> = ir.routes.values().collect();
    routes.sort_by_key(|r| std::cmp::Reverse(r.rank));
    let names: Vec<_> = routes.iter().filter_map(|r| r.origin.name.as_deref()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert!(matches!(&routes[0].matches, Matches::Predicate(Predicate::All(all)) if all.len() == 2));
}

#[test]
fn streams_know_their_wires() {
    let (ir, _) = lowered("routes: [{name: r, protocols: [tls_passthrough], snis: ['*.a.com']}]");
    let route = only_route(&ir);
    let Matches::Conditions(conditions) = &route.matches else { panic!("{:?}", route.matches) };
    assert_eq!(conditions.wires, [Wire::TlsPassthrough]);
    assert_eq!(conditions.snis, [HostPattern::Suffix(".a.com".into())]);
}

#[test]
fn the_tag_asks_for_http2() {
    let (ir, _) = lowered("services: [{name: a, host: h, tags: [upstream-http2]}]");
    assert_eq!(ir.backends.values().next().unwrap().http, Some(HttpVersion::H2));
}

#[test]
fn secrets_are_resolved_or_said() {
    let text = "certificates: [{cert: '{vault://env/cert}', key: '{vault://env/key}'}]";
    let (ir, diagnostics) = lowered(text);
    assert!(ir.certificates.is_empty());
    let texts: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(texts[0], "{vault://env/cert} cannot be resolved: the environment has no CERT");
    assert_eq!((diagnostics.len(), diagnostics[2].code), (3, Code::Certificate));
}

#[test]
fn a_reference_where_none_is_resolved_is_told() {
    let registry = Registry::new(cardinal_plugins_auth::PLUGINS);
    let text =
        "_format_version: \"3.0\"\nconsumers: [{username: a, keyauth_credentials: [{key: '{vault://env/none}'}]}]";
    let snapshot = load(&[Source::new("kong.yaml", text)], &registry, &Settings::default()).unwrap();
    let (ir, _, diagnostics) = lower(&snapshot, &registry, &Settings::default());
    assert_eq!((ir.credentials.len(), diagnostics.len()), (1, 1), "{diagnostics:?}");
    let told = &diagnostics[0];
    assert_eq!((told.severity, told.code, told.path.as_str()), (Severity::Warning, Code::Secret, "key"));
    assert!(told.message.contains("is used as literal text"), "{}", told.message);
}

#[test]
fn strict_refuses_the_whole_set() {
    let registry = Registry::new(&[]);
    let settings = Settings::default();
    let of = |text: &str| {
        let source = Source::new("kong.yaml", format!("_format_version: \"3.0\"\n{text}"));
        let snapshot = load(&[source], &registry, &settings).unwrap();
        lower_strict(&snapshot, &registry, &settings).map(|(ir, ..)| ir.routes.len()).map_err(|d| d[0].to_string())
    };
    assert_eq!(of("routes: [{name: r, paths: ['~/(?!x)a', /b]}]"), Ok(2));
    assert_eq!(
        of(
            "services: [{name: a, host: h, protocol: https, ca_certificates: [58076db2-28b6-423b-ba39-a797193017f7]}, {name: b, host: h}]"
        ),
        Err("kong.yaml:2:12: services \"a\": ca_certificates: there is no CA certificate \
             58076db2-28b6-423b-ba39-a797193017f7"
            .to_owned())
    );
}
