//! Consumers: the clients that requests are authenticated as.

use cardinal_schema::{at_least_one_of, field, record, string};

use super::{Kind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let schema = record(base_fields())
        .with([
            field("username", string().unique().describe("Name of the consumer.")),
            field("custom_id", string().unique().describe("Name of the consumer in another system.")),
            tags_field(),
        ])
        .check(at_least_one_of(["custom_id", "username"]));
    Kind::new("consumers", schema).key("username")
}
