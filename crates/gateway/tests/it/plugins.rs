//! Descriptions of plugins, as far as the tests of this crate need them. They cannot be built.

use std::sync::Arc;

use cardinal_schema::*;
use cardinal_sdk::{BuildCx, BuildError, EntityDef, Filter, HTTP_PROTOCOLS, PluginDef, Scopes};
use serde_json::{Value, json};

fn build(_: &Value, _: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    Err(BuildError::new("", "a description only"))
}

const fn plugin(name: &'static str, priority: i32, schema: fn() -> Schema) -> PluginDef {
    PluginDef {
        name,
        summary: "For tests.",
        priority,
        schema,
        entities: &[],
        scopes: Scopes::ALL,
        protocols: HTTP_PROTOCOLS,
        build,
    }
}

pub(crate) static ALL: [&PluginDef; 9] = [
    &ACL,
    &BASIC_AUTH,
    &IP_RESTRICTION,
    &JWT,
    &KEY_AUTH,
    &PROMETHEUS,
    &RATE_LIMITING,
    &REQUEST_TERMINATION,
    &REQUEST_TRANSFORMER,
];

const fn entity(name: &'static str, kind: &'static str, lookup: &'static str, schema: fn() -> Schema) -> EntityDef {
    EntityDef { name, collection: name, nested: name, kind, schema, lookup, unique: true, seal: None, prepare: None }
}

static ACL: PluginDef = PluginDef {
    scopes: Scopes::NO_CONSUMER,
    entities: &[EntityDef {
        unique: false,
        ..entity("acls", "acl", "group", || record([field("group", string().required())]))
    }],
    ..plugin("acl", 950, || {
        record([
            field("allow", array(string())),
            field("deny", array(string())),
            field("hide_groups_header", boolean().required().default(false)),
            field("always_use_authenticated_groups", boolean().required().default(false)),
        ])
        .outer_check(exactly_one_of(["config.allow", "config.deny"]))
        .outer_check(at_least_one_of(["config.allow", "config.deny"]))
    })
};

static BASIC_AUTH: PluginDef = PluginDef {
    scopes: Scopes::NO_CONSUMER,
    entities: &[EntityDef {
        seal: Some(|value, consumer| {
            let password = value["password"].as_str().unwrap_or_default();
            value["password"] = format!("sealed:{password}:{consumer}").into();
        }),
        ..entity("basicauth_credentials", "basic-auth", "username", || {
            record([
                field("username", string().required().unique()),
                field("password", string().required().encrypted()),
            ])
        })
    }],
    ..plugin("basic-auth", 1100, || {
        record([
            field("anonymous", string()),
            field("hide_credentials", boolean().required().default(false)),
            field("realm", string().required().default("service")),
        ])
    })
};

static IP_RESTRICTION: PluginDef = PluginDef {
    protocols: &["http", "https", "tcp", "tls", "grpc", "grpcs"],
    ..plugin("ip-restriction", 990, || {
        record([
            field("allow", array(typedefs::ip_or_cidr())),
            field("deny", array(typedefs::ip_or_cidr())),
            field("status", number()),
            field("message", string()),
        ])
        .outer_check(at_least_one_of(["config.allow", "config.deny"]))
    })
};

static JWT: PluginDef = PluginDef {
    entities: &[entity("jwt_secrets", "jwt", "key", || {
        record([
            field("key", string().unique().auto()),
            field("secret", string().auto().encrypted()),
            field("rsa_public_key", string()),
            field("algorithm", string().default("HS256").one_of(["HS256", "RS256"])),
        ])
    })],
    ..plugin("jwt", 1450, || record([]))
};

static KEY_AUTH: PluginDef = PluginDef {
    scopes: Scopes::NO_CONSUMER,
    entities: &[entity("keyauth_credentials", "key-auth", "key", || {
        record([field("key", string().unique().auto().encrypted().referenceable())])
    })],
    ..plugin("key-auth", 1250, || {
        record([
            field("key_names", array(typedefs::header_name()).required().default(json!(["apikey"]))),
            field("hide_credentials", boolean().required().default(false)),
            field("anonymous", string()),
        ])
    })
};

static PROMETHEUS: PluginDef =
    plugin("prometheus", 13, || record([field("per_consumer", boolean().required().default(false))]));

static RATE_LIMITING: PluginDef = plugin("rate-limiting", 910, || {
    let limit = || number().gt(0);
    let needs = |on, value: &'static str, field| conditional(on, rules().eq(value), field, rules().required());
    record([
        field("second", limit()),
        field("minute", limit()),
        field("hour", limit()),
        field("day", limit()),
        field("month", limit()),
        field("year", limit()),
        field(
            "limit_by",
            string().default("consumer").one_of(["consumer", "credential", "ip", "service", "header", "path"]),
        ),
        field("header_name", typedefs::header_name()),
        field("path", typedefs::path()),
        field("policy", string().default("local").len_min(0).one_of(["local", "redis"])),
        field("fault_tolerant", boolean().required().default(true)),
        field("redis", typedefs::redis()),
        field("hide_client_headers", boolean().required().default(false)),
        field("error_code", number().default(429).gt(0)),
        field("error_message", string().default("API rate limit exceeded")),
        field("sync_rate", number().required().default(-1)),
    ])
    .shorthands(typedefs::redis_flat_names())
    .outer_check(at_least_one_of([
        "config.second",
        "config.minute",
        "config.hour",
        "config.day",
        "config.month",
        "config.year",
    ]))
    .outer_check(needs("config.policy", "redis", "config.redis.host"))
    .outer_check(needs("config.limit_by", "header", "config.header_name"))
});

static REQUEST_TERMINATION: PluginDef = plugin("request-termination", 2, || {
    record([
        field("status_code", integer().required().default(503).between(100, 599)),
        field("message", string()),
        field("content_type", string()),
        field("body", string()),
        field("echo", boolean().required().default(false)),
        field("trigger", typedefs::header_name()),
    ])
    .validate(|config| match (config["message"].is_string(), config["body"].is_string()) {
        (true, true) => Err("message cannot be used with content_type or body".to_owned()),
        _ => Ok(()),
    })
});

static REQUEST_TRANSFORMER: PluginDef = plugin("request-transformer", 801, || {
    let list = || array(string()).required().default(json!([]));
    let group = move || record([field("body", list()), field("headers", list()), field("querystring", list())]);
    record([
        field("http_method", typedefs::http_method()),
        field("remove", group()),
        field("rename", group()),
        field("replace", group().with([field("uri", string())])),
        field("add", group()),
        field("append", group()),
    ])
});
