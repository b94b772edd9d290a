//! Server names, each with the certificate it is served with.

use cardinal_schema::{field, foreign, record, typedefs};

use super::{Kind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let name = typedefs::wildcard_host().required().unique().describe("Server name, perhaps with `*` at one end.");
    let schema = record(base_fields()).with([
        field("name", name),
        tags_field(),
        field("certificate", foreign("certificates").required().describe("The certificate.")),
    ]);
    Kind::new("snis", schema).key("name")
}
