//! The configuration of `rate-limiting`: that of Kong without a database, and `window_type`.

use cardinal_schema::{
    Field, Schema, at_least_one_of, boolean, conditional, field, number, record, rules, string, typedefs,
};
use cardinal_sdk::rate::Period;
use serde_json::Value;

pub(super) fn config() -> Schema {
    record([
        field("second", limit("Maximum number of requests in a second.")),
        field("minute", limit("Maximum number of requests in a minute.")),
        field("hour", limit("Maximum number of requests in an hour.")),
        field("day", limit("Maximum number of requests in a day.")),
        field("month", limit("Maximum number of requests in a month.")),
        field("year", limit("Maximum number of requests in a year.")),
        field(
            "limit_by",
            string().default("consumer").one_of(["consumer", "credential", "ip", "service", "header", "path"]).describe(
                "The property that requests are counted by. For a request without it, the client's address is used.",
            ),
        ),
        field("header_name", typedefs::header_name().describe("The header, when limiting by `header`.")),
        field("path", typedefs::path().describe("The path, when limiting by `path`.")),
        field(
            "policy",
            string().default("local").len_min(0).one_of(["local", "redis"]).describe(
                "Where counters are: `local` in this node's memory, `redis` in a Redis server that nodes share.",
            ),
        ),
        field(
            "fault_tolerant",
            boolean().required().default(true).describe(
                "Allow requests without limits while the Redis server is unavailable. Otherwise they get status 500.",
            ),
        ),
        field("redis", typedefs::redis()),
        field(
            "hide_client_headers",
            boolean().required().default(false).describe("Do not add response headers about the limits."),
        ),
        field("error_code", number().default(429).gt(0).describe("Status of rejected requests.")),
        field("error_message", string().default("API rate limit exceeded").describe("Message of rejected requests.")),
        field(
            "sync_rate",
            number().required().default(-1).describe(
                "With `redis`: seconds between exchanges of counts with the server, 0.02 at least. -1 queries the \
                 server for each request.",
            ),
        ),
        field(
            "window_type",
            string().one_of(["fixed", "sliding"]).addition().describe(
                "How windows move: `fixed` (also when absent) starts anew with each calendar second, minute, hour, \
                 day, month, year (UTC); `sliding` also counts the share of the window before that still lies within \
                 the window's length. An addition to Kong's fields.",
            ),
        ),
    ])
    .shorthands(typedefs::redis_flat_names())
    .validate(check_config)
    .outer_check(at_least_one_of([
        "config.second",
        "config.minute",
        "config.hour",
        "config.day",
        "config.month",
        "config.year",
    ]))
    .outer_check(with_redis("config.redis.host"))
    .outer_check(with_redis("config.redis.port"))
    .outer_check(with_redis("config.redis.timeout"))
    .outer_check(conditional("config.limit_by", rules().eq("header"), "config.header_name", rules().required()))
    .outer_check(conditional("config.limit_by", rules().eq("path"), "config.path", rules().required()))
}

fn limit(text: &'static str) -> Field {
    number().gt(0).describe(text)
}

fn with_redis(field: &'static str) -> cardinal_schema::Check {
    conditional("config.policy", rules().eq("redis"), field, rules().required())
}

/// Kong: `validate_periods_order`.
fn check_config(config: &Value) -> Result<(), String> {
    let limit = |period: Period| config.get(period.name()).and_then(Value::as_f64);
    for (at, lower) in Period::ALL.into_iter().enumerate() {
        let Some(low) = limit(lower) else { continue };
        for upper in Period::ALL.into_iter().skip(at + 1) {
            if let Some(high) = limit(upper).filter(|high| *high < low) {
                return Err(format!(
                    "The limit for {}({high:.1}) cannot be lower than the limit for {}({low:.1})",
                    upper.name(),
                    lower.name()
                ));
            }
        }
    }
    let rate = config.get("sync_rate").and_then(Value::as_f64).filter(|rate| *rate != -1.0);
    match (config.get("policy").and_then(Value::as_str), rate) {
        (Some("redis"), Some(rate)) if rate < 0.02 => {
            Err("sync_rate must be greater than 0.02, or -1 to disable".to_owned())
        }
        (Some("redis"), _) | (_, None) => Ok(()),
        (_, Some(_)) => Err("sync_rate can only be used with the redis policy".to_owned()),
    }
}
