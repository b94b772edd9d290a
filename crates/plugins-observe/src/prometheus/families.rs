//! The metrics that requests are counted in: names and labels are a contract with dashboards.

/// A metric with its labels.
#[derive(Debug)]
pub(super) struct Family {
    /// Without `kong_`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) kind: Kind,
}

/// What is kept for each set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A count; shown divided by the number.
    Counter(u64),
    /// Upper bounds of buckets.
    Histogram(&'static [u64]),
}

/// The families, by their places in [`FAMILIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Metric {
    AiCost,
    AiLatency,
    AiRequests,
    AiTokens,
    Bandwidth,
    Requests,
    KongLatency,
    RequestLatency,
    SessionDuration,
    Sessions,
    UpstreamLatency,
}

/// Costs are kept in millionths.
pub(super) const COST_UNIT: u64 = 1_000_000;

const KONG_BUCKETS: &[u64] = &[1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000];
const UPSTREAM_BUCKETS: &[u64] = &[25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10000, 30000, 60000];
const AI_BUCKETS: &[u64] = &[250, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 10000, 30000, 60000];

const ROUTE: &[&str] = &["service", "route", "workspace"];
const AI: &[&str] =
    &["ai_provider", "ai_model", "cache_status", "vector_db", "embeddings_provider", "embeddings_model", "workspace"];

/// In the order of [`Metric`].
pub(super) const FAMILIES: [Family; 11] = [
    Family {
        name: "ai_llm_cost_total",
        help: "Cost of requests to language models",
        labels: AI,
        kind: Kind::Counter(COST_UNIT),
    },
    Family {
        name: "ai_llm_provider_latency_ms",
        help: "Milliseconds that language models took to answer",
        labels: AI,
        kind: Kind::Histogram(AI_BUCKETS),
    },
    Family { name: "ai_llm_requests_total", help: "Requests to language models", labels: AI, kind: Kind::Counter(1) },
    Family {
        name: "ai_llm_tokens_total",
        help: "Tokens that requests to language models used",
        labels: &[
            "ai_provider",
            "ai_model",
            "cache_status",
            "vector_db",
            "embeddings_provider",
            "embeddings_model",
            "token_type",
            "workspace",
        ],
        kind: Kind::Counter(1),
    },
    Family {
        name: "bandwidth_bytes",
        help: "Bytes from (ingress) and to (egress) clients",
        labels: &["service", "route", "direction", "workspace", "consumer"],
        kind: Kind::Counter(1),
    },
    Family {
        name: "http_requests_total",
        help: "Requests by status",
        labels: &["service", "route", "code", "source", "workspace", "consumer"],
        kind: Kind::Counter(1),
    },
    Family {
        name: "kong_latency_ms",
        help: "Milliseconds that the gateway and its plugins added to requests",
        labels: ROUTE,
        kind: Kind::Histogram(KONG_BUCKETS),
    },
    Family {
        name: "request_latency_ms",
        help: "Milliseconds that requests took in all",
        labels: ROUTE,
        kind: Kind::Histogram(UPSTREAM_BUCKETS),
    },
    Family {
        name: "session_duration_ms",
        help: "Milliseconds that stream sessions lasted",
        labels: ROUTE,
        kind: Kind::Histogram(UPSTREAM_BUCKETS),
    },
    Family {
        name: "stream_sessions_total",
        help: "Stream sessions by status",
        labels: &["service", "route", "code", "source", "workspace"],
        kind: Kind::Counter(1),
    },
    Family {
        name: "upstream_latency_ms",
        help: "Milliseconds that upstreams took to answer",
        labels: ROUTE,
        kind: Kind::Histogram(UPSTREAM_BUCKETS),
    },
];
