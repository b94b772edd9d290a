//! Consumer groups: plugins may be scoped to them. Kong has them in its Enterprise edition only.

use cardinal_schema::{field, record, string};

use super::{Kind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let name = string().unique().required().describe("Name of the group.");
    let schema = record(base_fields()).with([field("name", name), tags_field()]);
    Kind::new("consumer_groups", schema).key("name")
}
