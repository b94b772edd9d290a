//! Tracing: trace contexts of clients and for upstreams, spans, and their export.

mod collector;
mod export;
mod propagation;
mod proto;
mod spans;

use anyhow::{Result, ensure};
use cardinal_engine::Configuration;
use cardinal_ir::{Id, Origin, SpanExporter, SpanProtocol, SpanQueue, Telemetry};
use cardinal_testkit::World;
use serde_json::Value;

use crate::plugins;
use crate::scene::sent;
use collector::Collector;

/// An exporter to this collector, without waiting for a batch to fill.
fn exporter(protocol: SpanProtocol, collector: &Collector) -> SpanExporter {
    let path = if protocol == SpanProtocol::OtlpHttp { "/v1/traces" } else { "" };
    let url = format!("http://{}{path}", collector.address).into();
    let queue = SpanQueue { batch_delay_ms: 0, batch_requests_max: 1, retry_delay_ms: 1, ..SpanQueue::default() };
    SpanExporter { protocol, url, queue, ..SpanExporter::default() }
}

fn telemetry(exporter: Option<SpanExporter>) -> Telemetry {
    let origin = Origin::new("test", "tracing", Id::from_u128(77)).named("all");
    Telemetry { origin, exporter, ..Telemetry::default() }
}

/// A configuration of this file with these tracing records.
fn configured(yaml: &str, records: Vec<Telemetry>) -> Result<Configuration> {
    let mut configuration = World::compiled(plugins(), yaml, &[("status_listen", "127.0.0.1:0")])?;
    for (number, record) in (1..).zip(records) {
        configuration.ir_mut().telemetry.insert(Id::from_u128(number), record);
    }
    Ok(configuration)
}

fn world(yaml: &str, records: Vec<Telemetry>) -> Result<World> {
    World::of(plugins(), configured(yaml, records)?)
}

/// Trace id, span id and flags of the `traceparent` that reached the backend.
fn traceparent(report: &Value) -> Result<(String, String, String)> {
    let text = sent(report, "traceparent");
    let parts: Vec<_> = text.split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = <[String; 4]>::try_from(parts).unwrap_or_default();
    ensure!(version == "00" && trace.len() == 32 && span.len() == 16, "traceparent {text:?} in {report}");
    Ok((trace, span, flags))
}
