//! The configuration of `key-auth`.

use cardinal_schema::{Schema, array, boolean, field, record, string, typedefs};
use serde_json::json;

pub(super) fn config() -> Schema {
    record([
        field(
            "key_names",
            array(typedefs::header_name()).required().default(json!(["apikey"])).describe(
                "Names under which the key is looked for: as a header, a query argument, a field of the body. The \
                 first name that is there counts.",
            ),
        ),
        field(
            "hide_credentials",
            boolean()
                .required()
                .default(false)
                .describe("Remove the key from the request before it goes to the upstream service."),
        ),
        field(
            "anonymous",
            string().describe(
                "Id or username of the consumer that requests without a valid key go on as. Without it they are \
                 refused.",
            ),
        ),
        field("key_in_header", boolean().required().default(true).describe("Look for the key in the request headers.")),
        field("key_in_query", boolean().required().default(true).describe("Look for the key in the query string.")),
        field(
            "key_in_body",
            boolean().required().default(false).describe(
                "Look for the key in the request body, if it is `application/x-www-form-urlencoded`, \
                 `application/json` or `multipart/form-data`. The body is then held in memory, up to 1 MiB; a larger \
                 one is answered with 413.",
            ),
        ),
        field(
            "run_on_preflight",
            boolean()
                .required()
                .default(true)
                .describe("Authenticate `OPTIONS` requests, too. If off, they always pass."),
        ),
        field("realm", string().describe("The realm that the `WWW-Authenticate` header of a refusal names.")),
        field(
            "identity_realms",
            array(record([
                field("scope", string().one_of(["cp", "realm"])),
                field("id", string()),
                field("region", string()),
            ]))
            .addition()
            .describe("Accepted and without effect: keys are those of the configuration (Kong Enterprise)."),
        ),
    ])
}
