//! Credentials and what else plugins attach to consumers: described by the plugin, made an entity here.

use cardinal_schema::{field, foreign, record, typedefs};
use cardinal_sdk::EntityDef;

use super::{Kind, LookupKey, tags_field};

pub(super) fn kind(def: &'static EntityDef) -> Kind {
    let own = (def.schema)();
    let mut schema = record([
        field("id", typedefs::uuid()),
        field("created_at", typedefs::auto_timestamp_s()),
        field("consumer", foreign("consumers").required().describe("Whose it is.")),
    ]);
    schema.fields.extend(own.fields);
    schema.shorthands = own.shorthands;
    schema.checks = own.checks;
    schema.validators = own.validators;
    schema.description = own.description;
    schema.ttl = own.ttl || def.name == "keyauth_credentials";
    let mut kind = Kind::new(def.name, schema.with([tags_field()]));
    kind.collection = def.collection;
    if def.unique {
        kind.key = Some(LookupKey { field: def.lookup, unique: true });
    }
    kind.cache_key = cache_key(def);
    kind.cascade = &["consumer"];
    kind.brought_by = Some(def);
    kind
}

/// Kong: credentials are found by what requests name, attachments by their consumer and name.
fn cache_key(def: &EntityDef) -> &'static [&'static str] {
    match (def.unique, def.lookup) {
        (true, "key") => &["key"],
        (true, "username") => &["username"],
        (true, "client_id") => &["client_id"],
        (false, "group") => &["consumer", "group"],
        _ => &[],
    }
}
