//! Counting what requests to language models used: the `ai` field of log records.

use serde_json::Value;

use super::families::{COST_UNIT, Metric};
use super::registry::Registry;

/// Counts each entry of the field: `{"<name>": {"meta": {}, "usage": {}, "cache": {}}}`.
pub(super) fn count(registry: &Registry, metrics: &Value, workspace: &str) {
    for entry in metrics.as_object().into_iter().flat_map(|entries| entries.values()) {
        let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let number = |path: &str| entry.pointer(path).and_then(Value::as_f64).filter(|n| *n >= 0.0);
        let model = [
            text("/meta/provider_name"),
            text("/meta/request_model"),
            text("/cache/cache_status"),
            text("/cache/vector_db"),
            text("/cache/embeddings_provider"),
            text("/cache/embeddings_model"),
        ];
        let [provider, name, cache, vector_db, embeddings, embeddings_model] = model;
        let labels = [provider, name, cache, vector_db, embeddings, embeddings_model, workspace];
        add(registry, Metric::AiRequests, &labels, 1);
        #[allow(clippy::cast_precision_loss, reason = "a constant far below 2^53")]
        if let Some(cost) = number("/usage/cost").filter(|cost| *cost > 0.0) {
            add(registry, Metric::AiCost, &labels, whole(cost * COST_UNIT as f64));
        }
        if let Some(latency) = number("/meta/llm_latency") {
            match registry.series(Metric::AiLatency, &labels) {
                Some(series) => series.observe(whole(latency)),
                None => registry.fail(),
            }
        }
        for kind in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            if let Some(tokens) = number(&format!("/usage/{kind}")).filter(|tokens| *tokens > 0.0) {
                let labels = [provider, name, cache, vector_db, embeddings, embeddings_model, kind, workspace];
                add(registry, Metric::AiTokens, &labels, whole(tokens));
            }
        }
    }
}

fn add(registry: &Registry, metric: Metric, labels: &[&str], amount: u64) {
    match registry.series(metric, labels) {
        Some(series) => series.add(amount),
        None => registry.fail(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
