//! The configuration of `request-transformer`.

use cardinal_schema::{Field, Schema, array, field, record, string, typedefs};
use serde_json::json;

use crate::pairs::{check_header, check_header_pair, split};

pub(super) fn config() -> Schema {
    let pairs = || list(string().validate_str(check_pair));
    let header_pairs = || list(string().matches("(?s)^[^:]+:.*$").validate_str(check_header));
    let uri = field("uri", string().describe("The path of the request to the upstream, instead of the client's."));
    record([
        field("http_method", typedefs::http_method().describe("The method of the request to the upstream.")),
        field(
            "remove",
            groups(list(string()), list(string().validate_str(check_header)), list(string()))
                .describe("Names to remove."),
        ),
        field(
            "rename",
            groups(pairs(), list(string().matches("(?s)^[^:]+:.*$").validate_str(check_header_pair)), pairs())
                .describe("`old:new` names."),
        ),
        field(
            "replace",
            groups(pairs(), header_pairs(), pairs()).with([uri]).describe("`name:value`, if the name is present."),
        ),
        field("add", groups(pairs(), header_pairs(), pairs()).describe("`name:value`, if the name is absent.")),
        field("append", groups(pairs(), header_pairs(), pairs()).describe("`name:value`, added to existing values.")),
    ])
    // Any protocol may be named, as in Kong; the default is what it is used for.
    .outer_field("protocols", typedefs::protocols())
}

fn list(of: Field) -> Field {
    array(of).required().default(json!([]))
}

fn groups(body: Field, headers: Field, querystring: Field) -> Schema {
    record([
        field("body", body.describe("Fields of a JSON, form or multipart body.")),
        field("headers", headers.describe("Request headers.")),
        field("querystring", querystring.describe("Query arguments.")),
    ])
}

fn check_pair(text: &str) -> Result<(), String> {
    match split(text) {
        (name, "") => Err(format!("key '{name}' has no value")),
        _ => Ok(()),
    }
}
