//! The configuration of `cors`.

use cardinal_schema::{Schema, array, boolean, field, number, record, string};
use serde_json::json;

use super::origins;

/// Kong's order.
pub(super) const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

pub(super) fn config() -> Schema {
    record([
        field(
            "origins",
            array(string().validate_str(check_origin)).describe(
                "Allowed origins: `*` for all, an origin (`https://example.com`), or a regular expression for \
                 the whole origin; one without a colon is for the host alone. All are allowed if the list is empty.",
            ),
        ),
        field(
            "headers",
            array(string())
                .describe("Value of `Access-Control-Allow-Headers`. By default the headers that the browser requests."),
        ),
        field(
            "exposed_headers",
            array(string()).describe("Value of `Access-Control-Expose-Headers`: headers that scripts may read."),
        ),
        field(
            "methods",
            array(string().one_of(METHODS))
                .default(json!(METHODS))
                .describe("Value of `Access-Control-Allow-Methods`."),
        ),
        field(
            "max_age",
            number().describe("Seconds for which browsers may cache the response to a preflight request."),
        ),
        field(
            "credentials",
            boolean().required().default(false).describe(
                "Send `Access-Control-Allow-Credentials: true`, so that browsers send cookies and let scripts read \
                 the response.",
            ),
        ),
        field(
            "private_network",
            boolean().required().default(false).describe(
                "Answer `Access-Control-Request-Private-Network: true` with `Access-Control-Allow-Private-Network: \
                 true`.",
            ),
        ),
        field(
            "preflight_continue",
            boolean()
                .required()
                .default(false)
                .describe("Pass preflight requests to the upstream service, which responds to them."),
        ),
        field(
            "allow_origin_absent",
            boolean().required().default(true).describe("Add headers also to responses to requests without `Origin`."),
        ),
    ])
}

fn check_origin(text: &str) -> Result<(), String> {
    if text == "*" || origins::compile(text).is_ok() {
        return Ok(());
    }
    Err(format!("'{text}' is not a valid regex"))
}
