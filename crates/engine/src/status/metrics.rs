//! The text of `/metrics`: metrics of plugins, of the engine, and of other parts of the process.

use cardinal_base::metrics::MetricText;
use cardinal_sync::Incomplete;

use super::pages::resident_bytes;
use super::upstreams;
use crate::node::Node;
use crate::policy::{Event, PolicyCounts, telemetry};

/// All metrics in Prometheus exposition format.
pub(crate) fn text(node: &Node) -> String {
    let mut text = MetricText(node.services.shared.collect());
    if !text.0.is_empty() && !text.0.ends_with('\n') {
        text.0.push('\n');
    }
    let totals = node.totals();
    text.one("connections_accepted_total", "counter", "Client connections accepted.", totals.accepted);
    text.one("connections_refused_total", "counter", "Client connections closed at once by a limit.", totals.refused);
    text.one("connections_active", "gauge", "Client connections open now.", totals.active);
    let limit = node.connections_max(node.plan().map_or(0, |plan| plan.node().limits.connections_max));
    text.one("connections_limit", "gauge", "Client connections that may be open at once; 0 is no limit.", limit);
    text.one("requests_total", "counter", "Requests from clients.", totals.requests);
    text.one("requests_active", "gauge", "Requests being served.", totals.serving);
    text.head("failures_total", "counter", "Requests and connections that failed, by kind.");
    for (kind, count) in &totals.failures {
        text.line("failures_total", &[("kind", kind.label())], count);
    }
    policies(node, &mut text);
    text.head("mirrored_requests_total", "counter", "Copies of requests for mirrors, by what became of them.");
    for (result, count) in &totals.mirrored {
        text.line("mirrored_requests_total", &[("result", result)], count);
    }
    text.head("upstream_retries_total", "counter", "Requests that were sent to an upstream again, by reason.");
    for (reason, count) in &totals.retries {
        text.line("upstream_retries_total", &[("reason", reason)], count);
    }
    text.one(
        "upstream_retry_budget_exhausted_total",
        "counter",
        "Requests that were not sent again because the retry budget of their cluster was exhausted.",
        totals.retry_budget_exhausted,
    );
    text.one(
        "upstream_pool_evictions_total",
        "counter",
        "TLS server names whose idle upstream connections were closed to make room for those of others.",
        totals.pool_evictions,
    );
    text.one("generation", "gauge", "Number of the active configuration; 0 is none.", node.generation());
    let help = "Replaced configurations that are still in memory because requests use them.";
    text.one("retired_plans", "gauge", help, node.retired_plans());
    upstreams::metrics(node, &mut text);
    let memory = &node.services.memory;
    text.one("body_buffer_bytes", "gauge", "Bodies and log entries that are held in memory.", memory.used());
    text.one(
        "body_buffer_limit_bytes",
        "gauge",
        "Memory limit of bodies and log entries (body_buffer_budget).",
        memory.max(),
    );
    let help = "Bodies and log entries that were not held because the budget, or the connection's part, was exhausted.";
    text.one("body_buffer_refused_total", "counter", help, memory.refused());
    let queues = cardinal_sdk::queue::totals(&node.services.shared);
    text.one("log_queue_entries", "gauge", "Log entries of plugins that are queued.", queues.entries);
    text.one("log_queue_dropped_total", "counter", "Log entries of plugins that were lost.", queues.dropped);
    let spans = telemetry::Counters::of(&node.services);
    let help = "Spans of traced requests that a collector has accepted.";
    text.one("spans_exported_total", "counter", help, spans.exported());
    text.head("spans_dropped_total", "counter", "Spans of traced requests that were lost, by reason.");
    for (reason, count) in spans.dropped() {
        text.line("spans_dropped_total", &[("reason", reason)], count);
    }
    config(node, &mut text);
    text.one("draining", "gauge", "Whether the node is draining.", u8::from(node.is_draining()));
    text.one("workers", "gauge", "Worker threads.", node.shared.counters.len());
    text.one("dns_names", "gauge", "Names in the resolver's cache.", node.names.dns.names());
    let dropped = cardinal_base::log::dropped();
    text.one("log_dropped_total", "counter", "Lines of the node's log that were dropped.", dropped);
    if let Some(log) = &node.access_log {
        text.one("access_log_dropped_total", "counter", "Access log records that were dropped.", log.dropped());
    }
    for source in &node.metric_sources {
        source.write(&mut text);
    }
    if let Some(bytes) = resident_bytes() {
        text.one("process_resident_memory_bytes", "gauge", "Resident memory of the process.", bytes);
    }
    text.0
}

/// Counters of policies.
fn policies(node: &Node, text: &mut MetricText) {
    let counts = node.services.shared.get_or_insert(PolicyCounts::KEY, PolicyCounts::default);
    let help = "Requests and connections that an authorization policy decided about, by decision; those that shadow mode \
                would have denied are counted as allowed, too.";
    text.head("authorization_decisions_total", "counter", help);
    for (decision, event) in
        [("allowed", Event::Allowed), ("denied", Event::Denied), ("shadow_denied", Event::ShadowDenied)]
    {
        text.line("authorization_decisions_total", &[("decision", decision)], counts.get(event));
    }
    let help = "Requests and connections that a rate limit policy refused.";
    text.one("rate_limited_total", "counter", help, counts.get(Event::Limited));
    text.head("faults_injected_total", "counter", "Faults that policies injected, by type.");
    for (fault, event) in [("delay", Event::Delayed), ("abort", Event::Aborted), ("bandwidth", Event::Throttled)] {
        text.line("faults_injected_total", &[("type", fault)], counts.get(event));
    }
}

/// The result of the last change of the configuration.
fn config(node: &Node, text: &mut MetricText) {
    let state = node.config.state();
    let help = "Whether the last reload of the configuration, or else the start, was successful.";
    text.one("config_last_reload_successful", "gauge", help, u8::from(state.successful));
    let help = "When the configuration was last reloaded, or else at the start, successfully or not.";
    text.one("config_last_reload_timestamp_seconds", "gauge", help, state.at.seconds());
    let help = "When the active configuration was applied.";
    text.one("config_applied_timestamp_seconds", "gauge", help, state.applied_at.seconds());
    text.head("config_reloads_total", "counter", "Reloads of the configuration, by result.");
    text.line("config_reloads_total", &[("result", "success")], state.reloads_succeeded);
    text.line("config_reloads_total", &[("result", "failure")], state.reloads_failed);
    let help = "Whether the last known good configuration is active because the files were rejected at the start.";
    text.one("config_from_last_good", "gauge", help, u8::from(state.from_last_good));
    if let Some(age) = node.config.last_good_age_seconds() {
        let help = "Seconds since the last known good configuration that is active was saved.";
        text.one("config_last_good_age_seconds", "gauge", help, age);
    }
    let help = "Whether the source of the configuration could be read when it was last tried.";
    text.one("config_source_available", "gauge", help, u8::from(state.unavailable.is_none()));
    let Incomplete { left_out, missing_secrets } = state.incomplete;
    let help = "Entities of the active configuration that are not served.";
    text.one("config_entities_left_out", "gauge", help, left_out.count());
    let help = "References to secrets in the active configuration that cannot be resolved.";
    text.one("config_secrets_missing", "gauge", help, missing_secrets.count());
}
