//! Vaults: where `{vault://...}` references are looked up.

use cardinal_schema::{Schema, any, field, record, string};
use indexmap::IndexMap;

use super::{Kind, base_fields, tags_field};

/// Types of vaults there are. They can be named in references without an entity.
pub(super) const TYPES: [&str; 2] = ["env", "file"];

/// Types of vaults of Kong Enterprise. Entities of these types are accepted; references to them cannot be resolved.
pub(crate) const ENTERPRISE_TYPES: [&str; 5] = ["aws", "azure", "conjur", "gcp", "hcv"];

/// The types that there are here or in Kong.
pub(crate) fn is_type(name: &str) -> bool {
    TYPES.contains(&name) || ENTERPRISE_TYPES.contains(&name)
}

pub(super) fn kind() -> Kind {
    let mut kind = Kind::new("vaults", base().with([field("config", any())])).key("prefix");
    kind.cache_key = &["prefix"];
    kind
}

fn base() -> Schema {
    let prefix = string().required().unique().matches("^[a-z][a-z0-9-]*[a-z0-9]$").not_one_of(TYPES);
    record(base_fields()).with([
        field("prefix", prefix.describe("Name of the vault in references.")),
        field("name", string().required().describe("Type of the vault.")),
        field("description", string()),
        tags_field(),
    ])
}

/// The schema of a vault by its type.
pub(super) fn types() -> IndexMap<&'static str, Schema> {
    let env = record([field(
        "prefix",
        string().matches("^[A-Za-z_-][A-Za-z0-9_-]*$").describe("Put in front of names of environment variables."),
    )]);
    let file = record([field(
        "prefix",
        string().matches(r"^[^./][^\x00]*$").describe("Folder or file below the directory of the file vault."),
    )]);
    let served = [("env", env), ("file", file)].map(|(name, config)| (name, base().with([field("config", config)])));
    let accepted = ENTERPRISE_TYPES.map(|name| (name, base().with([field("config", any())])));
    served.into_iter().chain(accepted).collect()
}
