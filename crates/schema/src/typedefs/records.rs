//! Records that several plugins share.

use serde_json::json;

use super::{host, nest, port, sni, timeout};
use crate::{Field, Kind, Schema, Shorthand, boolean, field, integer, number, record, shorthand, string};

/// How to reach a Redis server.
pub fn redis() -> Schema {
    record([
        field("host", host().describe("Name or address of the Redis server.")),
        field("port", port().default(6379)),
        field("timeout", timeout().default(2000).describe("Milliseconds to connect, and between reads and writes.")),
        field("username", string().referenceable().describe("User for the `AUTH` command; needs Redis 6.")),
        field("password", string().encrypted().referenceable().len_min(0).describe("Password for the `AUTH` command.")),
        field("database", integer().default(0).describe("Number of the database.")),
        field("ssl", boolean().optional().default(false).describe("Connect over TLS.")),
        field("ssl_verify", boolean().optional().default(false).describe("Verify the server's certificate.")),
        field("server_name", sni().optional().describe("TLS server name.")),
    ])
    .describe("How to reach the Redis server.")
}

/// The names that fields of [`redis`] had beside the plugin's own fields (`redis_host` is now `redis.host`).
pub fn redis_flat_names() -> Vec<Shorthand> {
    macro_rules! flat {
        ($($old:literal => $path:literal: $of:expr),* $(,)?) => {
            vec![$(shorthand($old, $of, |v| nest($path, v)).replaced_with($path)),*]
        };
    }
    flat![
        "redis_host" => "redis.host": string(),
        "redis_port" => "redis.port": integer(),
        "redis_password" => "redis.password": string().len_min(0),
        "redis_username" => "redis.username": string(),
        "redis_ssl" => "redis.ssl": boolean(),
        "redis_ssl_verify" => "redis.ssl_verify": boolean(),
        "redis_server_name" => "redis.server_name": string(),
        "redis_timeout" => "redis.timeout": integer(),
        "redis_database" => "redis.database": integer(),
    ]
}

/// Parameters of the delivery queue.
pub fn queue() -> Schema {
    record([
        field("max_batch_size", integer().default(1).between(1, 1_000_000).describe("Entries delivered at a time.")),
        field(
            "max_coalescing_delay",
            number().default(1).between(0, 3_600).describe("Seconds to wait for a batch to fill."),
        ),
        field(
            "max_entries",
            integer()
                .default(10_000)
                .between(1, 1_000_000)
                .describe("Maximum number of entries in the queue; the oldest are dropped."),
        ),
        field("max_bytes", integer().describe("Maximum number of bytes in the queue.")),
        field(
            "max_retry_time",
            number().default(60).describe("Seconds until a batch that cannot be delivered is dropped."),
        ),
        field(
            "initial_retry_delay",
            number()
                .default(json!(0.01))
                .between(0.001, 1_000_000)
                .describe("Seconds before the first retry; doubles."),
        ),
        field(
            "max_retry_delay",
            number().default(60).between(0.001, 1_000_000).describe("Seconds between retries at most."),
        ),
        field(
            "concurrency_limit",
            integer().default(1).one_of([-1, 1]).describe("Deliveries at a time; -1 is without limit."),
        ),
    ])
    .describe("Parameters of the delivery queue.")
}

/// The names that settings of [`queue`] had before there was one. They stay fields of their own (`null` unless given);
/// [`Field::deprecated`] says what took over. `old` is one of `retry_count`, `queue_size`, `flush_timeout`.
pub fn queue_flat_names() -> Vec<crate::Named> {
    let old = |kind: Kind, message: &'static str| Field::new(kind).deprecated(message);
    vec![
        field("retry_count", old(Kind::Integer, "no longer works, use queue.max_retry_time instead")),
        field("queue_size", old(Kind::Integer, "use queue.max_batch_size instead")),
        field("flush_timeout", old(Kind::Number, "use queue.max_coalescing_delay instead")),
    ]
}
