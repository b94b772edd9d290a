//! The configuration of `key-auth`.

use cardinal_schema::{Schema, array, boolean, field, record, string, typedefs};
use serde_json::json;

pub(super) fn config() -> Schema {
    record([
        field(
            "key_names",
            array(typedefs::header_name()).required().default(json!(["apikey"])).describe(
                "Names of headers, query arguments or fields of the body that may contain the key. The first one that \
                 is present is used.",
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
                "Id or username of the consumer that requests without a valid key are handled as. Without it they are \
                 rejected.",
            ),
        ),
        field("key_in_header", boolean().required().default(true).describe("Read the key from the request headers.")),
        field("key_in_query", boolean().required().default(true).describe("Read the key from the query string.")),
        field(
            "key_in_body",
            boolean().required().default(false).describe(
                "Read the key from the request body, if it is `application/x-www-form-urlencoded`, \
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
        field("realm", string().describe("The realm in the `WWW-Authenticate` header of rejected requests.")),
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
