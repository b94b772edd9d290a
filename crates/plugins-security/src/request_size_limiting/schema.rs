//! The configuration of `request-size-limiting`.

use cardinal_schema::{Schema, boolean, field, integer, record, string};

pub(super) fn config() -> Schema {
    record([
        field(
            "allowed_payload_size",
            integer().default(128).describe("The maximum size of a body, in units of `size_unit`."),
        ),
        field(
            "size_unit",
            string()
                .required()
                .default("megabytes")
                .one_of(["megabytes", "kilobytes", "bytes"])
                .describe("The unit of the size: `megabytes` of 1,048,576 bytes, `kilobytes` of 1,024, or `bytes`."),
        ),
        field(
            "require_content_length",
            boolean().required().default(false).describe(
                "Reject requests without `Content-Length` with 411, unless they are sent with `Transfer-Encoding: \
                 chunked`.",
            ),
        ),
    ])
}
