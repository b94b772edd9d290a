//! Formats a request as JSON for echo responses.

use cardinal_http::{Name, query, trim};
use cardinal_sdk::HeadCx;
use serde_json::{Map, Value, json};

/// Maximum size of the copied body, bytes.
pub(super) const BODY_MAX: u64 = 1 << 20;

/// Maximum number of copied query and form arguments.
const ARGUMENTS_MAX: usize = 1_000;

/// The request, its destination, and the node as JSON. Unknown values are left out.
pub(super) fn copy(cx: &HeadCx<'_>, message: Option<&str>, node_key: &str) -> Value {
    let mut copy = Map::new();
    if let Some(message) = message {
        copy.insert("message".to_owned(), message.into());
    }
    let services = cx.services;
    let node = json!({
        "node_id": services.node_id.to_string(),
        "worker_pid": std::process::id(),
        "hostname": &*services.hostname,
    });
    if !node_key.is_empty() {
        copy.insert(node_key.to_owned(), node);
    }
    copy.insert("request".to_owned(), request(cx));
    let exchange = &cx.exchange;
    if let Some(document) = exchange.route.as_ref().and_then(|route| serde_json::from_str(&route.document()).ok()) {
        copy.insert("matched_route".to_owned(), document);
    }
    if let Some(document) = exchange.backend.as_ref().and_then(|backend| serde_json::from_str(&backend.document()).ok())
    {
        copy.insert("matched_service".to_owned(), document);
    }
    Value::Object(copy)
}

fn request(cx: &HeadCx<'_>) -> Value {
    let (client, original) = (&cx.exchange.client, &cx.exchange.original);
    let captures = &cx.exchange.captures;
    let named: Map<_, _> =
        captures.named.iter().map(|(name, value)| (name.to_string(), Value::from(&**value))).collect();
    let unnamed: Vec<_> = captures.numbered.iter().skip(1).map(Option::as_deref).collect();
    let body = cx.body().map(AsRef::as_ref).unwrap_or_default();
    let headers =
        cx.request.headers.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), Value::from(text(value))));
    let query = cx.request.query().unwrap_or_default();
    let mut request = json!({
        "scheme": if client.tls.is_some() { "https" } else { "http" },
        "host": original.host,
        "port": client.local.port(),
        "headers": by_name(headers),
        "query": arguments(query),
        "raw_body": text(body),
        "method": cx.request.method.as_str(),
        "path": text(cx.path),
        "uri_captures": {"named": named, "unnamed": unnamed},
    });
    if let (Some(form), Some(request)) = (form(cx, body), request.as_object_mut()) {
        request.insert("body".to_owned(), form);
    }
    request
}

/// The parsed body, if it is a form or JSON.
fn form(cx: &HeadCx<'_>, body: &[u8]) -> Option<Value> {
    let kind = cx.request.headers.known(Name::ContentType)?.split(|b| *b == b';').next().map(trim)?;
    if kind.eq_ignore_ascii_case(b"application/json") {
        return serde_json::from_slice(body).ok().filter(|value: &Value| value.is_object() || value.is_array());
    }
    kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded").then(|| arguments(body))
}

fn arguments(text_of: &[u8]) -> Value {
    let arguments = query::arguments(text_of, ARGUMENTS_MAX);
    by_name(arguments.map(|(name, value)| (text(&name), value.map_or(Value::Bool(true), |value| text(&value).into()))))
}

/// A single value unchanged, several values as a list.
fn by_name(values: impl Iterator<Item = (String, Value)>) -> Value {
    let mut all = Map::new();
    for (name, value) in values {
        match all.get_mut(&name) {
            None => drop(all.insert(name, value)),
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    Value::Object(all)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
