//! Filter chains of Wasm filters. There is no Wasm runtime here, so each one is refused, with Kong's words for that.

use cardinal_schema::{
    array, at_least_one_of, boolean, custom, field, foreign, json, mutually_exclusive, record, string, typedefs,
};

use super::{Kind, base_fields, tags_field};

pub(super) fn kind() -> Kind {
    let filter = record([
        // An empty list of filters: no name is one of it.
        field("name", string().required().validate_str(|_| Err("no such filter".to_owned()))),
        field("enabled", boolean().default(true).required()),
        field("config", json().optional()),
    ]);
    let schema = record(base_fields())
        .with([
            field("name", typedefs::utf8_name()),
            field("enabled", boolean().required().default(true)),
            field("route", foreign("routes").unique()),
            field("service", foreign("services").unique()),
            field("filters", array(filter).required().len_min(1)),
            tags_field(),
        ])
        .check(mutually_exclusive(["service", "route"]))
        .check(at_least_one_of(["service", "route"]))
        .check(custom(["filters"], |_| Err("wasm support is not enabled".into())).always());
    let mut kind = Kind::new("filter_chains", schema).key("name");
    kind.collection = "filter-chains";
    kind.cache_key = &["route", "service"];
    kind.cascade = &["route", "service"];
    kind
}
