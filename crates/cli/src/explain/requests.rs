//! Requests and decisions as lines of JSON.

use std::net::IpAddr;

use bytes::Bytes;
use cardinal_engine::explain::{Applied, Decision, Named, Question};
use cardinal_kong::scope_text;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{LeftOut, discreet};

/// One line of a file of requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    client_ip: Option<IpAddr>,
    #[serde(default)]
    sni: Option<String>,
    #[serde(default)]
    http2: bool,
    #[serde(default)]
    body: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// The request of a line.
pub(super) fn question(line: &str) -> Result<Question, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let mut headers = Vec::new();
    for (name, value) in line.headers.into_iter().flatten() {
        // A list is a header that is there several times.
        let values = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(format!("header {name:?}: expected text, got {other}")),
            };
            headers.push((name.clone(), text));
        }
    }
    let Line { method, url, client_ip, sni, http2, body, .. } = line;
    Ok(Question {
        method,
        url,
        headers,
        client_ip,
        sni,
        http2,
        body: body.map(Bytes::from).unwrap_or_default(),
        group: None,
    })
}

/// A decision as an object of one line.
pub(super) fn json(question: &Question, decision: &Decision, left_out: &LeftOut) -> Value {
    let named = |named: &Option<Named>| match named {
        Some(named) => json!({ "id": named.id, "name": named.name }),
        None => Value::Null,
    };
    let plugin = |plugin: &Applied| {
        let mut object = json!({ "name": plugin.name, "scope": scope_text(&plugin.scope) });
        if let Some(reason) = left_out.reason(plugin) {
            object["left_out"] = reason.into();
        }
        object
    };
    let plugins: Vec<Value> = decision.plugins.iter().map(plugin).collect();
    let mut object = json!({
        "route": named(&decision.route),
        "service": named(&decision.backend),
        "upstream_uri": decision.upstream_uri.as_deref().map(|uri| discreet::uri(uri, question)),
        "upstream_host": decision.upstream_host,
        "plugins": plugins,
        "reply": decision.reply.as_ref().map(|(status, _)| json!({ "status": status })),
    });
    if let Some(tracing) = &decision.tracing {
        object["tracing"] =
            json!({ "id": tracing.policy.id, "sampled": tracing.sampled, "exporter": tracing.exporter });
    }
    object
}
