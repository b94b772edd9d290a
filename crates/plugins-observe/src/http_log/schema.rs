//! The configuration of `http-log`.

use cardinal_schema::{Schema, field, map, number, record, string, typedefs};
use serde_json::Value;

use super::endpoint::Endpoint;

pub(super) fn config() -> Schema {
    let name = typedefs::header_name()
        .match_none("^[Hh][Oo][Ss][Tt]$", "cannot contain 'Host' header")
        .match_none("(?i)^content-length$", "cannot contain 'Content-Length' header")
        .match_none("(?i)^content-type$", "cannot contain 'Content-Type' header");
    record([
        field(
            "http_endpoint",
            typedefs::url()
                .required()
                .encrypted()
                .referenceable()
                .describe("URL that records are sent to. User and password in it are sent as Basic credentials."),
        ),
        field("method", string().default("POST").one_of(["POST", "PUT", "PATCH"]).describe("Method to send with.")),
        field(
            "content_type",
            string()
                .default("application/json")
                .one_of(["application/json", "application/json; charset=utf-8"])
                .describe("`Content-Type` to send."),
        ),
        field("timeout", number().default(10_000).describe("Timeout of sending, in milliseconds.")),
        field("keepalive", number().default(60_000).describe("Idle timeout of connections, in milliseconds.")),
    ])
    .with(typedefs::queue_flat_names().into_iter().map(|mut named| {
        named.field.description = "An old name of a setting of the queue.";
        named
    }))
    .with([
        field("headers", map(name, string().referenceable()).describe("Further headers to send, one value each.")),
        field("queue", typedefs::queue()),
        field(
            "custom_fields_by_lua",
            typedefs::lua_code().describe(
                "Fields of the record by dotted path, each with a Lua chunk that returns an expression; nil removes the \
                 field.",
            ),
        ),
    ])
    .validate(one_authorization)
    // Any protocol may be named, as in Kong; the default is what it is used for.
    .outer_field("protocols", typedefs::protocols())
}

/// Kong: `custom_validator` of `kong/plugins/http-log/schema.lua`.
pub(super) fn one_authorization(config: &Value) -> Result<(), String> {
    let url = config.get("http_endpoint").and_then(Value::as_str).unwrap_or_default();
    let headers = config.get("headers").and_then(Value::as_object);
    let has_header =
        headers.is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")));
    if has_header && Endpoint::parse(url).is_some_and(|endpoint| endpoint.user.is_some()) {
        return Err(
            "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed".to_owned()
        );
    }
    Ok(())
}
