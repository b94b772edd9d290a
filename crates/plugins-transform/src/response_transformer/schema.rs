//! The configuration of `response-transformer`.

use cardinal_schema::{Field, Schema, array, field, record, string};
use serde_json::json;

use crate::pairs::check_header_pair;

pub(super) fn config() -> Schema {
    let pair = || string().matches("(?s)^[^:]+:.*$");
    let json_list = |of: Field| field("json", list(of).describe("Top-level fields of a JSON body."));
    let header_list = |of: Field| field("headers", list(of).describe("Response headers."));
    let with_types = || {
        let types = list(string().one_of(["boolean", "number", "string"]))
            .describe("Types of the values in `json`, one for each; `string` where there is none.");
        record([json_list(pair()), field("json_types", types), header_list(pair())])
    };
    record([
        field("remove", record([json_list(string()), header_list(string())]).describe("Names to remove.")),
        field(
            "rename",
            record([json_list(pair()), header_list(pair().validate_str(check_header_pair))])
                .describe("`old:new` names."),
        ),
        field("replace", with_types().describe("`name:value`, if the name is present.")),
        field("add", with_types().describe("`name:value`, if the name is absent.")),
        field("append", with_types().describe("`name:value`, added to existing values.")),
    ])
}

fn list(of: Field) -> Field {
    array(of).required().default(json!([]))
}
