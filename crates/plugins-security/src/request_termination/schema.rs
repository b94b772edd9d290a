//! The configuration of `request-termination`.

use cardinal_schema::{Schema, boolean, field, integer, record, string, typedefs};
use serde_json::Value;

pub(super) fn config() -> Schema {
    record([
        field(
            "status_code",
            integer().required().default(503).between(100, 599).describe("The status of the response, 200 to 599."),
        ),
        field(
            "message",
            string().describe(
                "The message of the response, sent as `{\"message\": ...}`. When left out, statuses 401, 404, 405, 500, \
                 502 and 503 have a standard one, and others have no body.",
            ),
        ),
        field("content_type", string().describe("The `Content-Type` of `body`.")),
        field("body", string().describe("The body of the response, sent unchanged. Not together with `message`.")),
        field(
            "echo",
            boolean().required().default(false).describe(
                "Respond with a copy of the request as JSON, for debugging. A body of up to 1 MiB is included; a \
                 larger one is rejected with 413.",
            ),
        ),
        field(
            "trigger",
            typedefs::header_name()
                .describe(
                    "Respond only to requests that have a header or a query argument of this name; other requests are \
                     proxied.",
                ),
        ),
    ])
    .validate(check)
}

/// Kong's texts.
fn check(config: &Value) -> Result<(), String> {
    let there = |name: &str| config.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let (message, content_type, body) = (there("message"), there("content_type"), there("body"));
    if message && (content_type || body) {
        return Err("message cannot be used with content_type or body".to_owned());
    }
    if content_type && !body {
        return Err("content_type requires a body".to_owned());
    }
    if config.get("echo") == Some(&Value::Bool(true)) && (content_type || body) {
        return Err("echo cannot be used with content_type and body".to_owned());
    }
    Ok(())
}
