//! Zipkin's JSON, version 2.

use serde_json::{Map, Value as Json, json};

use super::Resource;
use crate::policy::telemetry::span::{Finished, Kind, Span, Value};

/// The body of a request for a batch: a list of spans.
pub(super) fn encode<'r>(resource: &Resource, requests: impl Iterator<Item = &'r Finished>) -> Vec<u8> {
    let spans: Vec<Json> = requests.flat_map(|finished| &finished.spans).map(|span| json_of(span, resource)).collect();
    // Values of JSON have a text.
    serde_json::to_vec(&spans).unwrap_or_default()
}

fn json_of(span: &Span, resource: &Resource) -> Json {
    let mut tags = Map::new();
    for (name, value) in &resource.attributes {
        if **name != *"service.name" {
            tags.insert(name.to_string(), Json::from(&**value));
        }
    }
    for (name, value) in &span.attributes {
        let text = match value {
            Value::Text(text) => text.clone().into_owned(),
            Value::Number(number) => number.to_string(),
        };
        tags.insert(name.clone().into_owned(), Json::from(text));
    }
    if span.is_error {
        // The tag that Zipkin shows as an error.
        let kind = tags.get("error.type").cloned().unwrap_or_else(|| Json::from("true"));
        tags.insert("error".to_owned(), kind);
    }
    let mut json = json!({
        "traceId": span.trace_id.to_string(),
        "id": span.id.to_string(),
        "kind": if span.kind == Kind::Server { "SERVER" } else { "CLIENT" },
        "name": span.name,
        "timestamp": span.start_ns / 1_000,
        // Zipkin has no spans of no length.
        "duration": (span.end_ns.saturating_sub(span.start_ns) / 1_000).max(1),
        "localEndpoint": { "serviceName": resource.service_name() },
        "tags": tags,
    });
    if let Some(parent) = span.parent {
        json["parentId"] = Json::from(parent.to_string());
    }
    if let Some(endpoint) = remote_endpoint(span) {
        json["remoteEndpoint"] = endpoint;
    }
    json
}

/// The other side: the client, or the upstream.
fn remote_endpoint(span: &Span) -> Option<Json> {
    let find = |name: &str| span.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let Some(Value::Text(address)) = find("network.peer.address") else { return None };
    let family = if address.contains(':') { "ipv6" } else { "ipv4" };
    let mut endpoint = json!({ family: address });
    if let Some(Value::Number(port)) = find("network.peer.port") {
        endpoint["port"] = Json::from(*port);
    }
    Some(endpoint)
}
