//! Plugin instances. What may stand in `config`, and what an instance may be scoped to, is up to the plugin.

use cardinal_schema::{Field, Schema, any, boolean, field, foreign, record, string, typedefs};
use cardinal_sdk::PluginDef;
use serde_json::json;

use super::{Kind, PluginKind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let mut kind = Kind::new("plugins", base().with([field("config", any())])).key("instance_name");
    kind.cache_key = &["name", "route", "service", "consumer"];
    kind.cascade = &["route", "service", "consumer", "consumer_group"];
    kind
}

fn base() -> Schema {
    record(base_fields()).with([
        field("name", string().required().describe("The plugin.")),
        field("instance_name", typedefs::utf8_name().describe("A name for this instance.")),
        field("route", foreign("routes").describe("Only for requests of this route.")),
        field("service", foreign("services").describe("Only for requests to this service.")),
        field("consumer", foreign("consumers").describe("Only for requests of this consumer.")),
        field("consumer_group", foreign("consumer_groups").describe("Only for requests of members of this group.")),
        field("protocols", typedefs::protocols()),
        field("enabled", boolean().required().default(true).describe("A disabled instance does nothing.")),
        tags_field(),
    ])
}

pub(super) fn instance(def: &'static PluginDef) -> PluginKind {
    let config = (def.schema)();
    let mut schema = base().with([field("config", Field::from(config.clone()).required())]);
    let scopes = [
        (def.scopes.route, "route", typedefs::no_route()),
        (def.scopes.service, "service", typedefs::no_service()),
        (def.scopes.consumer, "consumer", typedefs::no_consumer()),
        (def.scopes.consumer_group, "consumer_group", typedefs::no_consumer_group()),
    ];
    for (_, name, forbidden) in scopes.into_iter().filter(|(allowed, ..)| !allowed) {
        schema = schema.replace(name, forbidden);
    }
    let only_http = def.protocols.iter().all(|p| typedefs::HTTP_PROTOCOLS.contains(p));
    let protocols = if only_http { typedefs::protocols_http() } else { typedefs::protocols() };
    let default = json!(def.protocols);
    schema = schema.replace("protocols", protocols.default(default.clone()));
    for outer in &config.outer_fields {
        let field = outer.field.clone();
        let field = if outer.name == "protocols" { field.default(default.clone()) } else { field };
        schema = schema.replace(outer.name, field);
    }
    PluginKind { def, schema, config }
}
