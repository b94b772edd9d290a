//! The configuration of `prometheus`.

use cardinal_schema::{Named, Schema, boolean, record, typedefs};

pub(super) fn config() -> Schema {
    record([
        toggle(
            "per_consumer",
            "Add a label for the consumer to `kong_http_requests_total` and `kong_bandwidth_bytes`.",
        ),
        toggle("status_code_metrics", "Count requests and stream sessions by status."),
        toggle("ai_metrics", "Count requests, tokens and cost of language models."),
        toggle("latency_metrics", "Measure latencies."),
        toggle("bandwidth_metrics", "Count bytes."),
        toggle("upstream_health_metrics", "Show the health of upstream targets."),
        toggle("wasm_metrics", "Accepted for compatibility; there are no WebAssembly filters to show metrics of."),
    ])
    // Any protocol may be named, as in Kong; the default is what it is used for.
    .outer_field("protocols", typedefs::protocols())
}

fn toggle(name: &'static str, text: &'static str) -> Named {
    cardinal_schema::field(name, boolean().default(false).describe(text))
}
