//! Targets: members of upstreams.

use cardinal_schema::{Named, boolean, field, foreign, integer, record, string, typedefs};

use super::{Kind, LookupKey, tags_field};

pub(super) fn kind() -> Kind {
    let base: [Named; 3] = [
        field("id", typedefs::uuid()),
        field("created_at", typedefs::auto_timestamp_ms()),
        field("updated_at", typedefs::auto_timestamp_ms()),
    ];
    let schema = record(base).with([
        field("upstream", foreign("upstreams").required().describe("The upstream.")),
        field("target", string().required().validate_str(check_target).describe("Host and port; 8000 when absent.")),
        field("weight", integer().default(100).between(0, 65_535).describe("Share of the traffic; 0 takes none.")),
        field(
            "failover",
            boolean().addition().describe("Used only while no other target is healthy (Kong Enterprise)."),
        ),
        tags_field(),
    ]);
    let mut kind = Kind::new("targets", schema);
    kind.key = Some(LookupKey { field: "target", unique: false });
    kind.cache_key = &["upstream", "target"];
    kind.cascade = &["upstream"];
    kind
}

fn check_target(target: &str) -> Result<(), String> {
    match typedefs::normalize_host(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("Invalid target ('{target}'); not a valid hostname or ip address")),
    }
}
