//! From the configuration of `request-termination` to a response. Kong: `kong/plugins/request-termination/handler.lua`.

use cardinal_http::is_value;
use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{Respond, RespondBody};
use cardinal_sdk::BuildError;
use serde::Deserialize;
use serde_json::Value;

use crate::parse_config;

#[derive(Deserialize)]
struct Config {
    status_code: u16,
    message: Option<Box<str>>,
    content_type: Option<Box<str>>,
    body: Option<Box<str>>,
    echo: bool,
    trigger: Option<Box<str>>,
}

pub(super) fn lower(config: &Value) -> Result<Option<PolicySpec>, BuildError> {
    let config: Config = parse_config(config)?;
    let status = config.status_code;
    if status < 200 {
        return Err(BuildError::new("status_code", "an interim status (below 200) cannot end a request"));
    }
    let message = config.message.or_else(|| standard_message(status).map(Into::into));
    let mut headers = Vec::new();
    let body = match (config.echo, config.body, message) {
        (true, _, message) => RespondBody::Echo { message, node_key: "kong".into() },
        _ if matches!(status, 204 | 304) => RespondBody::Empty,
        (false, Some(body), _) => {
            if let Some(content_type) = config.content_type {
                if !is_value(content_type.as_bytes()) {
                    return Err(BuildError::new("content_type", "must not contain control characters"));
                }
                headers.push(("Content-Type".into(), content_type));
            }
            RespondBody::Text(body)
        }
        (false, None, Some(message)) => RespondBody::Message(message),
        (false, None, None) => RespondBody::Empty,
    };
    Ok(Some(PolicySpec::Respond(Respond { status, headers, body, trigger: config.trigger })))
}

fn standard_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}
