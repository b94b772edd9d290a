//! Shorthands for configurations and reports.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use cardinal_engine::Engine;
use cardinal_testkit::{Issued, Response, World};
use serde_json::{Value, json};

/// A file with these tables.
pub(crate) fn file(mut tables: Value) -> String {
    tables["_format_version"] = json!("3.0");
    tables.to_string()
}

/// A file with one service at `url` behind `/`; `service` and `route` are merged into them.
pub(crate) fn one(url: &str, service: Value, route: Value) -> String {
    file(json!({ "services": [service_of(url, service, route)] }))
}

/// A service `s` at `url` with a route `r` at `/`.
pub(crate) fn service_of(url: &str, service: Value, route: Value) -> Value {
    let mut all = json!({ "name": "s", "url": url, "routes": [merged(json!({ "name": "r", "paths": ["/"] }), route)] });
    if url.is_empty() {
        all.as_object_mut().unwrap().remove("url");
    }
    all = merged(all, service);
    all
}

/// A service whose host is the upstream `u` with these targets and settings.
pub(crate) fn balanced(targets: &[(String, u32)], upstream: Value, service: Value) -> String {
    let targets: Vec<Value> = targets.iter().map(|(t, weight)| json!({ "target": t, "weight": weight })).collect();
    let upstream = merged(json!({ "name": "u", "targets": targets }), upstream);
    let service = service_of("", merged(json!({ "host": "u", "port": 1 }), service), json!({}));
    file(json!({ "upstreams": [upstream], "services": [service] }))
}

/// A target with the default weight.
pub(crate) fn target(address: SocketAddr) -> (String, u32) {
    (address.to_string(), 100)
}

/// A certificate as a table entry.
pub(crate) fn certificate(issued: &Issued, names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "cert": issued.cert_pem, "key": issued.key_pem, "snis": names })
}

/// The first object, with the fields of the second added.
pub(crate) fn merged(mut one: Value, two: Value) -> Value {
    let Value::Object(fields) = two else { panic!("not an object: {two}") };
    for (name, value) in fields {
        one[name] = value;
    }
    one
}

/// The values of a field that reached the backend.
pub(crate) fn sent_all(report: &Value, name: &str) -> Vec<String> {
    let fields = report["headers"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let same = |field: &&Value| field[0].as_str().unwrap().eq_ignore_ascii_case(name);
    fields.iter().filter(same).map(|field| field[1].as_str().unwrap().to_owned()).collect()
}

/// The only value of a field received by the backend; empty if there is none.
pub(crate) fn sent(report: &Value, name: &str) -> String {
    let mut all = sent_all(report, name);
    assert!(all.len() < 2, "{name} was sent {} times: {all:?}", all.len());
    all.pop().unwrap_or_default()
}

/// Status, and the text of an error in JSON.
pub(crate) fn outcome(response: &Response) -> (u16, String) {
    let message = serde_json::from_slice::<Value>(&response.body).ok();
    let message = message.and_then(|body| body["message"].as_str().map(str::to_owned));
    (response.status, message.unwrap_or_default())
}

/// Makes the error texts JSON.
pub(crate) const JSON: (&str, &str) = ("Accept", "application/json");

/// The response if no peer is healthy.
pub(crate) fn no_peer() -> (u16, String) {
    (503, "failure to get a peer from the ring-balancer".to_owned())
}

/// State of each address of each target, from the metrics.
pub(crate) fn health(engine: &Engine) -> Vec<(String, &'static str)> {
    engine.services().node.targets().into_iter().map(|t| (t.target.into(), t.state)).collect()
}

/// Waits until a target has this state.
pub(crate) async fn until_state(world: &World, target: SocketAddr, state: &str) -> Result<()> {
    let wanted = target.to_string();
    let is = || health(world.engine()).iter().any(|(target, now)| *target == wanted && *now == state);
    ensure!(eventually(is).await, "{wanted} is not {state}: {:?}", health(world.engine()));
    Ok(())
}

/// Whether a condition becomes true in time.
pub(crate) async fn eventually(is: impl Fn() -> bool) -> bool {
    cardinal_testkit::until("a condition of a test", is).await.is_ok()
}
