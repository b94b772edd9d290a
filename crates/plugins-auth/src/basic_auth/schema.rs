//! The configuration of `basic-auth`.

use cardinal_schema::{Schema, boolean, field, record, string};

pub(super) fn config() -> Schema {
    record([
        field(
            "anonymous",
            string().describe(
                "Id or username of the consumer that requests without valid credentials are handled as. Without it \
                 they are rejected.",
            ),
        ),
        field(
            "hide_credentials",
            boolean().required().default(false).describe(
                "Remove the `Authorization` or `Proxy-Authorization` header that was read before the request goes to \
                 the upstream service.",
            ),
        ),
        field(
            "realm",
            string()
                .required()
                .default("service")
                .describe("The realm in the `WWW-Authenticate` header of rejected requests."),
        ),
    ])
}
