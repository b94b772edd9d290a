//! `acls`: groups that consumers are in.

use cardinal_schema::{Schema, field, record, string};
use cardinal_sdk::EntityDef;

pub(super) const KIND: &str = "acl";

pub(super) const GROUPS: EntityDef = EntityDef {
    name: "acls",
    collection: "acls",
    nested: "acls",
    kind: KIND,
    schema,
    lookup: "group",
    unique: false,
    secrets: &[],
    seal: None,
    prepare: None,
};

fn schema() -> Schema {
    record([field("group", string().required().describe("The name of the group."))])
        .describe("Membership of a consumer in a group that `acl` goes by.")
}
