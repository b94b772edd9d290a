//! JSON for the API v0.4 of a Datadog agent: a list of traces, each a list of spans.

use serde_json::{Map, Value as Json, json};

use super::resource::Resource;
use crate::policy::telemetry::span::{Finished, Kind, Span, Value};

/// The request body for a batch.
pub(super) fn encode<'r>(resource: &Resource, requests: impl Iterator<Item = &'r Finished>) -> Vec<u8> {
    let traces: Vec<Vec<Json>> =
        requests.map(|finished| finished.spans.iter().map(|span| json_of(span, resource)).collect()).collect();
    // Serializing JSON values does not fail.
    serde_json::to_vec(&traces).unwrap_or_default()
}

fn json_of(span: &Span, resource: &Resource) -> Json {
    let (mut meta, mut metrics) = (Map::new(), Map::new());
    for (name, value) in resource.attributes.iter().filter(|(name, _)| **name != *"service.name") {
        meta.insert(name.to_string(), Json::from(&**value));
    }
    for (name, value) in &span.attributes {
        match value {
            // Datadog expects the status as text.
            Value::Number(number) if name == "http.response.status_code" => {
                meta.insert("http.status_code".to_owned(), Json::from(number.to_string()))
            }
            Value::Number(number) => metrics.insert(name.clone().into_owned(), Json::from(*number)),
            Value::Text(text) => meta.insert(name.clone().into_owned(), Json::from(text.clone().into_owned())),
        };
    }
    let is_server = span.kind == Kind::Server;
    meta.insert("span.kind".to_owned(), Json::from(if is_server { "server" } else { "client" }));
    if span.trace_id.upper() != 0 {
        meta.insert("_dd.p.tid".to_owned(), Json::from(format!("{:016x}", span.trace_id.upper())));
    }
    metrics.insert("_sampling_priority_v1".to_owned(), Json::from(1));
    json!({
        "trace_id": span.trace_id.lower(),
        "span_id": span.id.get(),
        "parent_id": span.parent.map_or(0, |parent| parent.get()),
        "service": resource.service_name(),
        "name": if is_server { "http.server.request" } else { "http.client.request" },
        "resource": span.name,
        "type": if is_server { "web" } else { "http" },
        "start": span.start_ns,
        "duration": span.end_ns.saturating_sub(span.start_ns),
        "error": i32::from(span.is_error),
        "meta": meta,
        "metrics": metrics,
    })
}
