//! A list that `kong config db_export` writes in addition to entities. It is checked and discarded: parameters belong to
//! Kong's own cluster.

use cardinal_schema::{field, record, string, typedefs};

use super::Kind;

pub(super) fn parameters() -> Kind {
    let schema = record([
        field("created_at", typedefs::auto_timestamp_s()),
        field("key", string().required().unique()),
        field("value", string().required()),
    ]);
    let mut kind = Kind::new("parameters", schema);
    kind.primary_key = "key";
    kind
}
