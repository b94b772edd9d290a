//! Lists that `kong config db_export` writes in addition to entities. They are checked and discarded: there
//! is one workspace here, and parameters belong to Kong's own cluster.

use cardinal_schema::{field, record, string, typedefs};

use super::{Kind, base_fields};

/// Kong's kinds of entities, which are not allowed as names of workspaces.
const RESERVED: [&str; 17] = [
    "workspaces",
    "consumers",
    "certificates",
    "services",
    "routes",
    "snis",
    "upstreams",
    "targets",
    "plugins",
    "tags",
    "ca_certificates",
    "clustering_data_planes",
    "parameters",
    "vaults",
    "key_sets",
    "keys",
    "filter_chains",
];

pub(super) fn kinds() -> [Kind; 2] {
    [workspaces(), parameters()]
}

fn workspaces() -> Kind {
    let schema = record(base_fields()).with([
        field("name", typedefs::utf8_name().required().not_one_of(RESERVED)),
        field("comment", string()),
        field("meta", record([])),
        field("config", record([])),
    ]);
    let mut kind = Kind::new("workspaces", schema).key("name");
    kind.cache_key = &["name"];
    kind
}

fn parameters() -> Kind {
    let schema = record([
        field("created_at", typedefs::auto_timestamp_s()),
        field("key", string().required().unique()),
        field("value", string().required()),
    ]);
    let mut kind = Kind::new("parameters", schema);
    kind.primary_key = "key";
    kind
}
