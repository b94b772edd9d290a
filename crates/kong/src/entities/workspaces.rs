//! Workspaces: parts of a configuration that are isolated from each other. Kong has more than one of them in its Enterprise
//! edition only.

use cardinal_schema::{field, json, record, string, typedefs};

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

pub(super) fn kind() -> Kind {
    let name = typedefs::utf8_name().required().unique().not_one_of(RESERVED);
    let schema = record(base_fields()).with([
        field("name", name.describe("Name of the workspace, with which paths of the Admin API may begin. It stays.")),
        field("comment", string().describe("A note.")),
        field("meta", json().describe("What clients keep with the workspace. It has no effect.")),
        field("config", json().describe("What clients keep with the workspace. It has no effect.")),
    ]);
    let mut kind = Kind::new("workspaces", schema).key("name");
    kind.cache_key = &["name"];
    kind
}
