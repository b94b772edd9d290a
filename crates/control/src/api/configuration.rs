//! `/config`: the whole configuration of a node without a database. Kong: `kong/api/routes/config.lua`.

use serde_json::{Value, json};

use super::body::{self, Body};
use super::call::Call;
use super::message::Response;
use crate::dao::Fault;

const ONLY_WITHOUT_DATABASE: &str = "this endpoint is only available when Kong is configured to not use a database";

pub(super) async fn answer(call: &Call<'_>, method: &str) -> Result<Response, Fault> {
    let Some(declarative) = &call.admin.declarative else { return Err(Fault::message(400, ONLY_WITHOUT_DATABASE)) };
    if method == "GET" {
        return Ok(Response::ok(json!({ "config": declarative.text() })));
    }
    let text = text(call)?;
    let flag = |name: &str| call.query.get(name).and_then(Value::as_str).unwrap_or_default();
    if flag("check_hash") == "1" && declarative.is_served(&text) {
        return Ok(Response { status: 304, headers: Vec::new(), body: None });
    }
    let flatten_errors = matches!(flag("flatten_errors").to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes");
    declarative.replace(text, flatten_errors).await.map(Response::created)
}

/// The configuration in a body: the field `config`, or else the body itself.
fn text(call: &Call<'_>) -> Result<String, Fault> {
    let whole = || {
        let text = std::str::from_utf8(&call.request.body).map_err(|_| Fault::message(400, "the body is not UTF-8"))?;
        match text.trim() {
            "" => Err(Fault::message(400, "expected a declarative configuration")),
            _ => Ok(text.to_owned()),
        }
    };
    let content_type = call.request.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    if content_type.contains("yaml") || call.request.body.is_empty() {
        return whole();
    }
    let (fields, is_form) = match body::read(call.request)? {
        Body::Json(fields) => (fields, false),
        Body::Form(fields) => (fields, true),
    };
    match fields.get("config") {
        _ if fields.contains_key("_format_version") && !is_form => whole(),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None if is_form => Err(Fault::message(400, "expected a declarative configuration")),
        None => whole(),
    }
}
