//! Upstreams: balanced groups of targets.

use cardinal_schema::{
    Check, Field, Schema, array, boolean, conditional, distinct, field, foreign, integer, number, record, rules,
    shorthand, string, typedefs,
};
use serde_json::{Value, json};

use super::{Kind, base_fields, tags_field};

const INPUTS: [&str; 8] = ["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"];

pub(super) fn kind() -> Kind {
    Kind::new("upstreams", schema()).key("name")
}

fn schema() -> Schema {
    let algorithms = ["consistent-hashing", "least-connections", "round-robin", "latency", "sticky-sessions"];
    let schema = record(base_fields())
        .with([
            field(
                "name",
                string()
                    .required()
                    .unique()
                    .validate_str(check_name)
                    .describe("The name that services use as their host."),
            ),
            field(
                "algorithm",
                string()
                    .default("round-robin")
                    .one_of(algorithms)
                    .added_values(&["sticky-sessions"])
                    .describe("How a target is chosen."),
            ),
            field("hash_on", hash_on().describe("Input of consistent hashing.")),
            field("hash_fallback", hash_on().describe("Input of consistent hashing if the first one is missing.")),
            field("hash_on_header", typedefs::header_name()),
            field("hash_fallback_header", typedefs::header_name()),
            field("hash_on_cookie", typedefs::cookie_name()),
            field("hash_on_cookie_path", typedefs::path().default("/")),
            field("hash_on_query_arg", string().len_min(1)),
            field("hash_fallback_query_arg", string().len_min(1)),
            field("hash_on_uri_capture", string().len_min(1)),
            field("hash_fallback_uri_capture", string().len_min(1)),
            field("slots", integer().default(10_000).between(10, 65_536).describe("Points on the hash ring.")),
            field("healthchecks", healthchecks()),
            tags_field(),
            field("host_header", typedefs::host_with_optional_port().describe("Host header to send.")),
            field("client_certificate", foreign("certificates").describe("Shown to targets.")),
            field(
                "sticky_sessions_cookie",
                typedefs::cookie_name().addition().describe("The cookie that names the target (Kong Enterprise)."),
            ),
            field(
                "sticky_sessions_cookie_path",
                typedefs::path().addition().describe("Path of that cookie; `/` when absent (Kong Enterprise)."),
            ),
            field("use_srv_name", boolean().default(false).describe("Send the name of the SRV record as Host.")),
        ])
        .shorthand(shorthand("algorithm", string(), |value| match value.as_str() {
            Some("least-connections" | "latency" | "sticky-sessions") => json!({ "algorithm": value, "hash_on": null }),
            _ => json!({ "algorithm": value }),
        }))
        .shorthand(shorthand("hash_on", string(), |value| match value {
            Value::Null => json!({ "hash_on": "none" }),
            Value::String(text) if text == "none" => json!({ "hash_on": "none", "algorithm": "round-robin" }),
            _ => json!({ "hash_on": value, "algorithm": "consistent-hashing" }),
        }));
    checks().into_iter().fold(schema, Schema::check)
}

fn checks() -> Vec<Check> {
    let needs = |on, value: &'static str, field| conditional(on, rules().eq(value), field, rules().required());
    let fallback = |value: &'static str, allowed: Vec<&'static str>| {
        conditional("hash_on", rules().eq(value), "hash_fallback", rules().one_of(allowed))
    };
    let but = |value: &str| INPUTS.into_iter().filter(|v| *v != value).collect::<Vec<_>>();
    vec![
        needs("hash_on", "header", "hash_on_header"),
        needs("hash_fallback", "header", "hash_fallback_header"),
        needs("hash_on", "cookie", "hash_on_cookie"),
        needs("hash_fallback", "cookie", "hash_on_cookie"),
        fallback("none", vec!["none"]),
        fallback("cookie", vec!["none"]),
        fallback("consumer", but("consumer")),
        fallback("ip", but("ip")),
        fallback("path", vec!["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"]),
        distinct(["hash_on_header", "hash_fallback_header"]),
        needs("hash_on", "query_arg", "hash_on_query_arg"),
        needs("hash_fallback", "query_arg", "hash_fallback_query_arg"),
        distinct(["hash_on_query_arg", "hash_fallback_query_arg"]),
        needs("hash_on", "uri_capture", "hash_on_uri_capture"),
        needs("hash_fallback", "uri_capture", "hash_fallback_uri_capture"),
        distinct(["hash_on_uri_capture", "hash_fallback_uri_capture"]),
        needs("algorithm", "sticky-sessions", "sticky_sessions_cookie"),
    ]
}

fn hash_on() -> Field {
    string().default("none").one_of(INPUTS)
}

fn statuses(default: Value) -> Field {
    array(integer().between(100, 999)).default(default)
}

fn seconds() -> Field {
    number().between(0, 65_535)
}

fn count() -> Field {
    integer().default(0).between(0, 255)
}

fn check_type() -> Field {
    string().one_of(["tcp", "http", "https", "grpc", "grpcs"]).default("http")
}

fn healthchecks() -> Schema {
    let active = record([
        field("type", check_type().describe("The protocol of probes.")),
        field("timeout", seconds().default(1).describe("Seconds a probe may take.")),
        field("concurrency", integer().default(10).between(1, 2_147_483_648_u32)),
        field("http_path", typedefs::path().default("/")),
        field("https_sni", typedefs::sni().optional()),
        field("https_verify_certificate", boolean().default(true).required()),
        field("headers", typedefs::headers().optional()),
        field(
            "healthy",
            record([
                field(
                    "interval",
                    seconds().default(0).describe("Seconds between probes of healthy targets; 0 is off."),
                ),
                field("http_statuses", statuses(json!([200, 302]))),
                field("successes", count()),
            ]),
        ),
        field(
            "unhealthy",
            record([
                field(
                    "interval",
                    seconds().default(0).describe("Seconds between probes of unhealthy targets; 0 is off."),
                ),
                field("http_statuses", statuses(json!([429, 404, 500, 501, 502, 503, 504, 505]))),
                field("tcp_failures", count()),
                field("timeouts", count()),
                field("http_failures", count()),
            ]),
        ),
    ]);
    let good = json!([200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308]);
    let passive = record([
        field("type", check_type()),
        field("healthy", record([field("http_statuses", statuses(good)), field("successes", count())])),
        field(
            "unhealthy",
            record([
                field("http_statuses", statuses(json!([429, 500, 503]))),
                field("tcp_failures", count()),
                field("timeouts", count()),
                field("http_failures", count()),
            ]),
        ),
    ]);
    record([
        field("active", active),
        field("passive", passive),
        field(
            "threshold",
            number()
                .default(0)
                .between(0, 100)
                .describe("The upstream is healthy while more than this percentage of its weight is available."),
        ),
    ])
}

fn check_name(name: &str) -> Result<(), String> {
    use cardinal_schema::typedefs::{HostKind, normalize_host};
    let invalid = |what: &str| Err(format!("Invalid name ('{name}'); {what}"));
    match normalize_host(name) {
        Err(_) => invalid("must be a valid hostname"),
        Ok(host) if host.kind != HostKind::Name => invalid("no ip addresses allowed"),
        Ok(host) if host.port.is_some() => invalid("no port allowed"),
        Ok(_) => Ok(()),
    }
}
