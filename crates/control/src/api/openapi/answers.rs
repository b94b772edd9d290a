//! Responses: errors, and messages.

use serde_json::{Map, Value, json};

use super::values::set;

/// The errors that an operation may answer with, and what they mean.
const ERRORS: [(u16, &str); 13] = [
    (304, "This is what is served already."),
    (400, "The request is wrong. With a `code`, `fields` or `options` say what is wrong with what."),
    (401, "The API has users, and the request has no token or session that is one's."),
    (
        403,
        "The request was sent by a web page of a foreign origin, or names a foreign host, or the user may not do this.",
    ),
    (404, "There is no such entity or path."),
    (405, "The path does not take this method, or nothing can be written because the entities come from files."),
    (408, "The body did not arrive in time."),
    (409, "Another entity has a value that must be unique, or the entity was changed meanwhile."),
    (413, "The body, or what it describes, is too large."),
    (415, "The content type of the body is not supported."),
    (429, "Another configuration is being loaded: try again after `Retry-After` seconds."),
    (500, "The store failed."),
    (503, "The process is ending."),
];

/// The name of the component for an error.
fn name(status: u16) -> String {
    format!("error-{status}")
}

/// References to the responses for these errors, by status.
pub(super) fn errors(statuses: &[u16]) -> impl Iterator<Item = (String, Value)> {
    statuses
        .iter()
        .map(|status| (status.to_string(), json!({ "$ref": format!("#/components/responses/{}", name(*status)) })))
}

/// The components.
pub(super) fn all() -> Map<String, Value> {
    let response = |(status, about): (u16, &str)| {
        let mut out = json!({ "description": about });
        if status != 304 {
            let schema = json!({ "$ref": "#/components/schemas/error" });
            set(&mut out, &["content"], json!({ "application/json": { "schema": schema } }));
        }
        if status == 429 {
            set(&mut out, &["headers"], json!({ "Retry-After": { "schema": { "type": "integer" } } }));
        }
        (name(status), out)
    };
    ERRORS.into_iter().map(response).collect()
}
