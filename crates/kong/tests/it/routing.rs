//! What the router of Kong 3.10 answered to 900 random route tables, through the front end and the matcher.
//!
//! `tests/conformance/router.json.gz` has for each case the routes with their services, a request, and the id of the
//! route that Kong chose with the path that went upstream. Where Kong's documentation leads to another route than the
//! running Kong, `expect_documented` has it. Kong computes no path where the service names no protocol, or where there is
//! no service.

use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use cardinal_ir::{Severity, Traffic, Wire};
use cardinal_kong::settings::{RouteOrder, RouterFlavor, Settings};
use cardinal_kong::{Registry, declarative, lower};
use cardinal_route::upstream_uri::Parts;
use cardinal_route::{Headers, Request, Router, normalize_path, split_host};
use serde_json::{Value, json};

use crate::plugins;

const FLAVORS: [RouterFlavor; 2] = [RouterFlavor::Traditional, RouterFlavor::TraditionalCompatible];

fn cases() -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/router.json.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn routes_are_those_of_the_running_kong() {
    check(RouteOrder::Kong, |case| &case["expect"]["route"]);
}

#[test]
fn routes_are_those_of_kongs_documentation() {
    check(RouteOrder::Documented, |case| case.get("expect_documented").unwrap_or(&case["expect"]["route"]));
}

fn check(order: RouteOrder, expected: impl Fn(&Value) -> &Value) {
    let cases = cases();
    assert_eq!(cases.len(), 900);
    assert_eq!(cases.iter().filter(|case| case.get("expect_documented").is_some()).count(), 16);
    let registries = FLAVORS.map(|flavor| Registry::with_flavor(&plugins::ALL, flavor));
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (route, uri) = answer(case, order, &registries);
        let expected = expected(case);
        let same_uri = *expected != case["expect"]["route"]
            || case["expect"]["upstream_uri"].as_str().is_none_or(|expected| uri.as_deref() == Some(expected));
        if route.as_deref() != expected.as_str() || !same_uri {
            wrong.push(format!(
                "#{number} {}: got {route:?} {uri:?}, expected {expected} {}",
                case["flavor"], case["expect"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

struct HeaderMap<'c>(&'c Value);

impl Headers for HeaderMap<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        for (_, values) in self.0.as_object().into_iter().flatten().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            let one = std::slice::from_ref(values);
            for value in values.as_array().map_or(one, |list| list) {
                if visit(value.as_str().unwrap().as_bytes()).is_break() {
                    return;
                }
            }
        }
    }
}

/// The route of a case, and the path that goes upstream.
fn answer(case: &Value, order: RouteOrder, registries: &[Registry; 2]) -> (Option<String>, Option<String>) {
    let at = usize::from(case["flavor"] == "traditional_compatible");
    let settings = Settings { router_flavor: FLAVORS[at], router_order: order, ..Settings::default() };
    let snapshot = declarative::load_value(&file(case), &registries[at], &settings).unwrap();
    let (ir, _, diagnostics) = lower(&snapshot, &registries[at], &settings);
    assert!(diagnostics.iter().all(|d| d.severity != Severity::Error), "{diagnostics:?}");
    let (router, diagnostics) = Router::build(&ir, Traffic::Http);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");

    let request = &case["request"];
    let (wire, port) = if request["vars"]["scheme"] == "https" { (Wire::Https, 443) } else { (Wire::Http, 80) };
    let (host, host_port) = split_host(request["host"].as_str().unwrap());
    let uri = request["uri"].as_str().unwrap();
    let path = normalize_path(uri.split('?').next().unwrap().as_bytes());
    let found = router.find(&Request {
        wire,
        method: request["method"].as_str().unwrap(),
        host: Some(&host),
        host_port,
        path: &path,
        query: b"",
        headers: &HeaderMap(&request["headers"]),
        sni: request["sni"].as_str(),
        source: SocketAddr::from(([10, 0, 0, 1], 40_000)),
        destination: SocketAddr::from(([10, 0, 0, 2], host_port.unwrap_or(port))),
    });
    let Some(found) = found else { return (None, None) };
    let backend = found.route.action.backend().and_then(|id| ir.backends.get(&id));
    let mut upstream = Vec::new();
    let parts = Parts {
        base: backend.and_then(|backend| backend.path.as_deref()).unwrap_or_default(),
        path: &path,
        matched: found.path_len,
        strip: found.route.rewrite.strip_path,
        handling: found.route.rewrite.path_handling,
    };
    parts.write(&mut upstream);
    (Some(found.route.origin.id.to_string()), Some(String::from_utf8(upstream).unwrap()))
}

/// The case as a declarative file. Services of different routes are different, whatever their names.
fn file(case: &Value) -> Value {
    let mut services = Vec::new();
    let mut routes = Vec::new();
    for (number, entry) in case["routes"].as_array().unwrap().iter().enumerate() {
        let mut route = entry["route"].clone();
        if !entry["service"].is_null() {
            let mut service = entry["service"].clone();
            service["name"] = json!(format!("s{number}"));
            route["service"] = service["name"].clone();
            services.push(service);
        }
        routes.push(route);
    }
    json!({ "_format_version": "3.0", "services": services, "routes": routes })
}
