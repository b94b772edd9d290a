//! Export of spans to collectors that are slow, full or unreachable.

use std::time::Duration;

use anyhow::{Result, ensure};
use cardinal_ir::{SpanExporter, SpanProtocol, SpanQueue};
use cardinal_testkit::{EchoServer, H1Client, World, free_port};
use serde_json::json;

use super::collector::{Answer, Collector};
use super::{exporter, telemetry, world};
use crate::scene::{eventually, one};

/// A world whose requests are traced, with its backend.
async fn start(exporter: SpanExporter) -> Result<(World, EchoServer)> {
    let echo = EchoServer::start("e").await;
    let world = world(&one(&echo.url(), json!({}), json!({})), vec![telemetry(Some(exporter))])?;
    Ok((world, echo))
}

async fn requests(world: &World, count: usize) -> Result<()> {
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..count {
        ensure!(client.get("/", "a", &[]).await?.status == 200);
    }
    Ok(())
}

/// A metric of the node.
async fn metric(world: &World, name: &str) -> Result<u64> {
    let text = H1Client::connect(world.status()).await?.get("/metrics", "a", &[]).await?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.unwrap_or_else(|| panic!("{name} is not in {text}")).trim().parse()?)
}

/// Waits until a metric has a value.
async fn until(world: &World, name: &str, value: u64) -> Result<()> {
    let reached = async || match metric(world, name).await {
        Ok(now) => (now == value).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    };
    cardinal_testkit::until_some(&format!("{name} to be {value}"), reached).await?
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_the_spans_again() -> Result<()> {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n";
    let mut collector = Collector::http(&[busy, busy]).await;
    let (world, _echo) = start(exporter(SpanProtocol::OtlpHttp, &collector)).await?;
    requests(&world, 1).await?;
    let bodies = [collector.next().await?.body, collector.next().await?.body, collector.next().await?.body];
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2], "the same spans");
    until(&world, "cardinal_spans_exported_total", 2).await?;
    for reason in ["queue_full", "undelivered", "refused", "rejected"] {
        assert_eq!(metric(&world, &format!("cardinal_spans_dropped_total{{reason=\"{reason}\"}}")).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_refuses_spans_is_not_asked_again() -> Result<()> {
    let refusal = "HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad";
    let mut collector = Collector::http(&[refusal]).await;
    let (world, _echo) = start(exporter(SpanProtocol::OtlpHttp, &collector)).await?;
    requests(&world, 1).await?;
    let first = collector.next().await?;
    until(&world, "cardinal_spans_dropped_total{reason=\"refused\"}", 2).await?;
    requests(&world, 1).await?;
    assert_ne!(collector.next().await?.body, first.body, "the next request's");
    until(&world, "cardinal_spans_exported_total", 2).await
}

#[tokio::test]
async fn spans_go_to_grpc_collectors() -> Result<()> {
    let answers = [
        Answer { status: 14, ..Answer::default() },
        // RESOURCE_EXHAUSTED with a RetryInfo of no delay.
        Answer {
            status: 8,
            details: Some("Gi4KKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SAgoA"),
            ..Answer::default()
        },
        // One span rejected.
        Answer { message: vec![0x0a, 2, 8, 1], ..Answer::default() },
        Answer { status: 3, ..Answer::default() },
    ];
    let mut collector = Collector::grpc(&answers).await;
    let headers = vec![("x-key".into(), "k".into())];
    let exporter = SpanExporter { headers, timeout_ms: 4_000, ..exporter(SpanProtocol::OtlpGrpc, &collector) };
    let (world, _echo) = start(exporter).await?;
    requests(&world, 1).await?;
    let first = collector.next().await?;
    assert_eq!(first.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!((first.header("te"), first.header("content-type")), (Some("trailers"), Some("application/grpc+proto")));
    assert_eq!((first.header("x-key"), first.header("grpc-timeout")), (Some("k"), Some("4000m")));
    let (spans, _) = first.spans()?;
    assert!(spans.len() == 2 && spans[0].is_server() && spans[1].parent() == spans[0].id(), "{spans:?}");
    assert!(collector.next().await?.body == first.body && collector.next().await?.body == first.body, "three times");
    until(&world, "cardinal_spans_dropped_total{reason=\"rejected\"}", 1).await?;
    until(&world, "cardinal_spans_exported_total", 1).await?;
    requests(&world, 2).await?;
    until(&world, "cardinal_spans_dropped_total{reason=\"refused\"}", 2).await?;
    until(&world, "cardinal_spans_exported_total", 3).await
}

#[tokio::test]
async fn a_collector_that_is_down_costs_no_more_than_the_queue() -> Result<()> {
    let url = format!("http://127.0.0.1:{}", free_port()).into();
    let queue = SpanQueue {
        batch_requests_max: 1,
        batch_delay_ms: 0,
        requests_max: 5,
        retry_delay_ms: 60_000,
        retry_delay_ms_max: 60_000,
        ..SpanQueue::default()
    };
    let (world, _echo) = start(SpanExporter { url, queue, ..SpanExporter::default() }).await?;
    // The first one is being delivered, which fails; five are queued; the others were dropped.
    requests(&world, 1).await?;
    let queued = || cardinal_sdk::queue::totals(&world.engine().services().shared);
    ensure!(eventually(|| queued().entries == 1).await, "{:?}", queued());
    tokio::task::yield_now().await;
    requests(&world, 20).await?;
    let full = async || metric(&world, "cardinal_spans_dropped_total{reason=\"queue_full\"}").await;
    ensure!(eventually(|| queued().entries <= 6).await, "{:?}", queued());
    let dropped = full().await?;
    assert!((30..=32).contains(&dropped), "{dropped} spans of 15 requests, or 16 if the first had not been taken yet");
    assert_eq!(metric(&world, "cardinal_spans_exported_total").await?, 0);
    // Requests are still served.
    requests(&world, 1).await
}

#[tokio::test]
async fn spans_are_flushed_when_the_node_stops() -> Result<()> {
    let mut collector = Collector::http(&[]).await;
    let queue = SpanQueue { batch_delay_ms: 3_600_000, ..SpanQueue::default() };
    let (world, _echo) = start(SpanExporter { queue, ..exporter(SpanProtocol::OtlpHttp, &collector) }).await?;
    requests(&world, 3).await?;
    let queued = || cardinal_sdk::queue::totals(&world.engine().services().shared).entries;
    ensure!(eventually(|| queued() == 3).await, "{} requests wait", queued());
    let engine = world.into_engine();
    let draining = tokio::task::spawn_blocking(move || engine.drain(Duration::from_secs(5)));
    let (spans, _) = collector.next().await?.spans()?;
    assert_eq!(spans.len(), 6, "one batch of three requests");
    assert_eq!(draining.await?, 0);
    Ok(())
}

#[tokio::test]
async fn other_collectors_get_their_own_form() -> Result<()> {
    for (protocol, path, method) in
        [(SpanProtocol::Zipkin, "/api/v2/spans", "POST"), (SpanProtocol::Datadog, "/v0.4/traces", "PUT")]
    {
        let mut collector = Collector::http(&["HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"]).await;
        let url = format!("http://{}{path}", collector.address).into();
        let (world, _echo) = start(SpanExporter { url, ..exporter(protocol, &collector) }).await?;
        requests(&world, 1).await?;
        let received = collector.next().await?;
        assert_eq!((&*received.method, &*received.path), (method, path));
        let body: serde_json::Value = serde_json::from_slice(&received.body)?;
        let spans = if protocol == SpanProtocol::Zipkin { &body } else { &body[0] };
        assert_eq!(spans.as_array().map(Vec::len), Some(2), "{body}");
        until(&world, "cardinal_spans_exported_total", 2).await?;
    }
    Ok(())
}
