//! The configuration of `proxy-cache`.

use cardinal_schema::{Field, Schema, array, boolean, field, integer, record, string, typedefs};
use serde_json::json;

pub(super) fn config() -> Schema {
    let toggle = |text: &'static str| -> Field { boolean().default(true).describe(text) };
    record([
        field(
            "response_code",
            array(integer().between(100, 900))
                .required()
                .default(json!([200, 301, 404]))
                .len_min(1)
                .describe("Statuses of responses that are cached."),
        ),
        field(
            "request_method",
            array(string().one_of(["HEAD", "GET", "POST", "PATCH", "PUT"]))
                .required()
                .default(json!(["GET", "HEAD"]))
                .describe("Methods of requests that are answered from the cache."),
        ),
        field(
            "content_type",
            array(string()).required().default(json!(["text/plain", "application/json"])).describe(
                "Content types of responses that are cached. `*` matches any type or subtype; parameters must be the \
                 same.",
            ),
        ),
        field("cache_ttl", integer().default(300).gt(0).describe("Seconds that a response is fresh.")),
        field("strategy", string().required().one_of(["memory"]).describe("The storage of responses.")),
        field(
            "cache_control",
            boolean()
                .required()
                .default(false)
                .describe("Obey the Cache-Control headers of requests and responses, instead of `cache_ttl`."),
        ),
        field(
            "ignore_uri_case",
            boolean().optional().default(false).describe("Paths that differ only in case are one."),
        ),
        field(
            "storage_ttl",
            integer()
                .describe("Seconds that a response is stored, even if it is stale; by default as long as it is fresh."),
        ),
        field(
            "memory",
            record([field(
                "dictionary_name",
                string()
                    .required()
                    .default("kong_db_cache")
                    .describe("Name of the memory area. Instances with the same name share it."),
            )])
            .describe("Settings of the memory strategy."),
        ),
        field(
            "vary_query_params",
            array(string()).describe("Query arguments that are part of the cache key; by default all."),
        ),
        field(
            "vary_headers",
            array(string()).describe("Request headers that are part of the cache key; by default none."),
        ),
        field(
            "response_headers",
            record([
                field("age", toggle("Send `Age` with responses from the cache.")),
                field("X-Cache-Status", toggle("Send `X-Cache-Status`.")),
                field("X-Cache-Key", toggle("Send `X-Cache-Key`.")),
            ])
            .describe("Response headers about the cache."),
        ),
    ])
    // Any protocol may be named, as in Kong; the default is what it is used for.
    .outer_field("protocols", typedefs::protocols())
}
