//! Zipkin's JSON, version 2.

use serde_json::{Map, Value as Json, json};

use super::resource::Resource;
use crate::policy::telemetry::span::{Finished, Kind, Span, Value};

/// The request body for a batch: a list of spans.
pub(super) fn encode<'r>(resource: &Resource, requests: impl Iterator<Item = &'r Finished>) -> Vec<u8> {
    let spans: Vec<Json> = requests.flat_map(|finished| &finished.spans).map(|span| json_of(span, resource)).collect();
    // Serializing JSON values does not fail.
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
        // Zipkin displays spans with this tag as failed.
        let kind = tags.get("error.type").cloned().unwrap_or_else(|| Json::from("true"));
        tags.insert("error".to_owned(), kind);
    }
    let mut fields = Map::new();
    let mut field = |name: &str, value: Json| drop(fields.insert(name.to_owned(), value));
    field("traceId", span.trace_id.to_string().into());
    field("id", span.id.to_string().into());
    field("kind", if span.kind == Kind::Server { "SERVER" } else { "CLIENT" }.into());
    field("name", span.name.as_str().into());
    field("timestamp", (span.start_ns / 1_000).into());
    // Zipkin does not allow a duration of 0.
    field("duration", (span.end_ns.saturating_sub(span.start_ns) / 1_000).max(1).into());
    field("localEndpoint", json!({ "serviceName": resource.service_name() }));
    field("tags", tags.into());
    if let Some(parent) = span.parent {
        field("parentId", parent.to_string().into());
    }
    if let Some(endpoint) = remote_endpoint(span) {
        field("remoteEndpoint", endpoint);
    }
    fields.into()
}

/// The remote endpoint: the client or the upstream.
fn remote_endpoint(span: &Span) -> Option<Json> {
    let find = |name: &str| span.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let Some(Value::Text(address)) = find("network.peer.address") else { return None };
    let family = if address.contains(':') { "ipv6" } else { "ipv4" };
    match find("network.peer.port") {
        Some(Value::Number(port)) => Some(json!({ family: address, "port": port })),
        _ => Some(json!({ family: address })),
    }
}
