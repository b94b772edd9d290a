//! The configuration of `correlation-id`.

use cardinal_schema::{Schema, boolean, field, record, string};

pub(super) fn config() -> Schema {
    record([
        field("header_name", string().default("Kong-Request-ID").describe("The header that holds the id.")),
        field(
            "generator",
            string().required().default("uuid#counter").one_of(["uuid", "uuid#counter", "tracker"]).describe(
                "How ids are made: `uuid` is random, `uuid#counter` is random for the node and counted up, `tracker` \
                 is address, port, process, connection, request and time.",
            ),
        ),
        field("echo_downstream", boolean().required().default(false).describe("Send the header to the client too.")),
    ])
}
