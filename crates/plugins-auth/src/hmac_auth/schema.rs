//! The configuration of `hmac-auth`.

use cardinal_schema::{Schema, array, boolean, field, number, record, string};
use serde_json::json;

use super::signing::Algorithm;

pub(super) fn config() -> Schema {
    record([
        field(
            "hide_credentials",
            boolean().required().default(false).describe(
                "Remove the `Authorization` or `Proxy-Authorization` header that was read before the request goes to \
                 the upstream service.",
            ),
        ),
        field(
            "clock_skew",
            number()
                .default(300)
                .gt(0)
                .describe("Most seconds by which the date of a request may differ from the node's clock."),
        ),
        field(
            "anonymous",
            string().describe(
                "Id or username of the consumer that requests without a valid signature are handled as. Without it \
                 they are rejected.",
            ),
        ),
        field(
            "validate_request_body",
            boolean().required().default(false).describe(
                "Compare the request body with the `Digest` header; a body without this header is rejected. The body \
                 is then held in memory, up to 64 MiB; a larger one is answered with 413.",
            ),
        ),
        field(
            "enforce_headers",
            array(string()).default(json!([])).describe(
                "Headers that signatures must cover at least, in this spelling; also `@request-target` and \
                 `request-line`.",
            ),
        ),
        field(
            "algorithms",
            array(string().one_of(Algorithm::ALL.map(Algorithm::name)).added_values(&["hmac-sha224"]))
                .default(json!(["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]))
                .describe("Algorithms that signatures may be made with."),
        ),
        field("realm", string().describe("The realm in the `WWW-Authenticate` header of rejected requests.")),
    ])
}
