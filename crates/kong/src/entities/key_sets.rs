//! Sets of keys.

use cardinal_schema::{field, record, string};

use super::{Kind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let schema = record(base_fields()).with([field("name", string().unique()), tags_field()]);
    let mut kind = Kind::new("key_sets", schema).key("name");
    kind.collection = "key-sets";
    kind
}
