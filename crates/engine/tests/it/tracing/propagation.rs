//! Trace contexts of clients and for upstreams, in all formats, and sampling.

use anyhow::{Result, ensure};
use cardinal_engine::explain::{Explainer, Question};
use cardinal_ir::{Id, Propagation, Sampling, SpanProtocol, Telemetry, TelemetryScope, TraceFormat, TraceInjection};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Response, World};
use serde_json::{Value, json};

use super::collector::Collector;
use super::{configured, exporter, telemetry, traceparent, world};
use crate::plugins;
use crate::scene::{file, one, sent, sent_all, service_of};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// The request received by the backend for a request with these fields, with this tracing.
async fn reached(record: Telemetry, fields: &[(&str, &str)]) -> Result<Value> {
    Ok(traced(record, fields).await?.1)
}

/// The same, with the node, whose spans may not have been sent yet.
async fn traced(record: Telemetry, fields: &[(&str, &str)]) -> Result<(World, Value)> {
    let echo = EchoServer::start("e").await;
    let world = world(&one(&echo.url(), json!({}), json!({})), vec![record])?;
    let response = H1Client::connect(world.http()).await?.get("/x", "a", fields).await?;
    ensure!(response.status == 200, "{response:?}");
    Ok((world, response.json()))
}

#[tokio::test]
async fn a_trace_is_started_or_continued() -> Result<()> {
    let mut collector = Collector::http(&[]).await;
    let record = telemetry(Some(exporter(SpanProtocol::OtlpHttp, &collector)));
    let echo = EchoServer::start("e").await;
    let world = world(&one(&echo.url(), json!({}), json!({})), vec![record])?;
    let mut client = H1Client::connect(world.http()).await?;

    let (trace, span, flags) = traceparent(&client.get("/x", "a", &[]).await?.json())?;
    assert_eq!(flags, "01");
    let (spans, _) = collector.next().await?.spans()?;
    let [server, attempt] = &spans[..] else { panic!("{spans:?}") };
    assert!(server.is_server() && !attempt.is_server());
    assert_eq!((server.trace(), server.parent()), (trace.clone(), String::new()), "the root");
    assert_eq!((attempt.trace(), attempt.parent(), attempt.id()), (trace.clone(), server.id(), span));

    let fields = [("traceparent", &*parent("01")), ("tracestate", "a=1"), ("tracestate", "b=2")];
    let report = client.get("/x", "a", &fields).await?.json();
    let (next, span, flags) = traceparent(&report)?;
    assert_eq!((&*next, &*flags, &*sent(&report, "tracestate")), (TRACE, "01", "a=1,b=2"));
    let (spans, _) = collector.next().await?.spans()?;
    assert_eq!((spans[0].trace(), spans[0].parent()), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!((spans[1].parent(), spans[1].id()), (spans[0].id(), span));
    assert_eq!(spans[0].trace_state, "a=1,b=2");
    assert_ne!(trace, TRACE);

    // A malformed context is ignored, together with its state.
    let malformed = [("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01"), ("tracestate", "a=1")];
    let report = client.get("/x", "a", &malformed).await?.json();
    let (third, ..) = traceparent(&report)?;
    assert!(![&*trace, TRACE].contains(&&*third) && sent_all(&report, "tracestate").is_empty());
    Ok(())
}

#[tokio::test]
async fn formats_are_read_and_written_as_configured() -> Result<()> {
    use TraceFormat::{Aws, B3, B3Single, Datadog, Gcp, Jaeger, Ot, W3c};
    let inject = |formats: &[TraceFormat]| formats.iter().copied().map(TraceInjection::Format).collect::<Vec<_>>();
    let preserve = || vec![TraceInjection::Preserve];
    let check = async |extract: &[TraceFormat],
                       inject: Vec<TraceInjection>,
                       fields: &[(&str, &str)],
                       expect: &[(&str, &str)]| {
        let propagation =
            Propagation { extract: extract.to_vec(), clear: vec!["X-Clear".into()], inject, default_format: Datadog };
        let fields: Vec<_> = fields.iter().copied().chain([("x-clear", "1")]).collect();
        let report = reached(Telemetry { propagation, ..telemetry(None) }, &fields).await?;
        for (name, value) in expect {
            let is = sent_all(&report, name).join(" ");
            // The part that is not random.
            let matches = if *value == "*" { !is.is_empty() } else { is == *value };
            ensure!(matches, "{name}: {is:?} instead of {value:?} for {fields:?}: {report}");
        }
        ensure!(sent_all(&report, "x-clear").is_empty(), "{report}");
        anyhow::Ok(())
    };
    let w3c = parent("01");
    let w3c = [("traceparent", &*w3c)];
    // Without an exporter, the upstream's parent is the client's span.
    let single = format!("{TRACE}-{SPAN}-1");
    check(&[W3c], inject(&[B3]), &w3c, &[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")])
        .await?;
    check(&[W3c], inject(&[B3Single, W3c]), &w3c, &[("b3", &single), ("traceparent", w3c[0].1)]).await?;
    let upper = ("x-datadog-tags", "_dd.p.tid=0af7651916cd43dd");
    let datadog = [("x-datadog-trace-id", "9532127138774266268"), ("x-datadog-parent-id", "13235353014750950193")];
    check(&[B3], inject(&[Datadog]), &[("b3", &*single)], &[datadog[0], datadog[1], upper]).await?;
    let from = [
        datadog[0],
        datadog[1],
        ("x-datadog-sampling-priority", "0"),
        ("x-datadog-tags", "_dd.p.tid=0af7651916cd43dd"),
    ];
    check(&[Datadog], inject(&[W3c]), &from, &[("traceparent", &parent("00"))]).await?;
    let aws = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1";
    check(&[W3c], inject(&[Aws]), &w3c, &[("x-amzn-trace-id", aws)]).await?;
    let gcp = format!("{TRACE}/13235353014750950193;o=1");
    check(&[Aws], inject(&[Gcp]), &[("x-amzn-trace-id", aws)], &[("x-cloud-trace-context", &gcp)]).await?;
    let jaeger = format!("{TRACE}:{SPAN}:0:1");
    check(&[Gcp], inject(&[Jaeger]), &[("x-cloud-trace-context", &*gcp)], &[("uber-trace-id", &jaeger)]).await?;
    check(&[Jaeger], inject(&[Ot]), &[("uber-trace-id", &*jaeger)], &[("ot-tracer-traceid", TRACE)]).await?;
    // Preserved: the format that was found first, in the order of the setting; or else the default.
    check(&[B3, W3c], preserve(), &[w3c[0], ("b3", "1")], &[("b3", "*"), ("traceparent", w3c[0].1)]).await?;
    check(&[W3c, B3], preserve(), &[], &[("x-datadog-trace-id", "*"), ("traceparent", ""), ("b3", "")]).await?;
    // Formats that are not extracted are ignored.
    check(&[], preserve(), &w3c, &[("x-datadog-trace-id", "*"), ("x-datadog-parent-id", "*")]).await?;
    // Nothing is injected: the client's headers are forwarded.
    check(&[W3c], Vec::new(), &w3c, &[("traceparent", w3c[0].1)]).await?;
    Ok(())
}

#[tokio::test]
async fn contexts_are_injected_over_http2_and_grpc() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let grpc = json!({ "name": "g", "url": echo.url().replace("http://", "grpc://"),
        "routes": [{ "name": "g", "protocols": ["grpc"], "paths": ["/pkg.S"] }] });
    let tables = json!({ "services": [service_of(&echo.url(), json!({}), json!({})), grpc] });
    let formats = [TraceFormat::W3c, TraceFormat::B3].map(TraceInjection::Format);
    let propagation = Propagation { inject: formats.into(), ..Propagation::default() };
    let world = world(&file(tables), vec![Telemetry { propagation, ..telemetry(None) }])?;
    let mut client = H2Client::connect(world.http()).await?;
    let w3c = parent("01");
    let report = client.request("GET", "a", "/x", &[("traceparent", &w3c)], b"").await?.json();
    assert_eq!((traceparent(&report)?.0, sent(&report, "x-b3-sampled")), (TRACE.to_owned(), "1".to_owned()));
    client.grpc("a", "/pkg.S/M", &[("traceparent", &w3c)], &[b"m"]).await?;
    let seen = echo.seen();
    let call = seen.iter().find(|report| report.path == "/pkg.S/M").expect("the call");
    assert_eq!(call.version, "2");
    assert_eq!((call.headers.get("traceparent"), call.headers.get("x-b3-traceid")), (Some(&*w3c), Some(TRACE)));
    Ok(())
}

#[tokio::test]
async fn the_decision_of_the_client_and_the_percentages_are_honoured() -> Result<()> {
    let mut collector = Collector::http(&[]).await;
    let percents =
        |client_percent, random_percent, overall_percent| Sampling { client_percent, random_percent, overall_percent };
    let asks = ("x-client-trace-id", "1");
    let (yes, no) = (parent("01"), parent("00"));
    let (yes, no) = (("traceparent", &*yes), ("traceparent", &*no));
    let cases = [
        (percents(100.0, 100.0, 100.0), None, "01"),
        (percents(100.0, 0.0, 100.0), None, "00"),
        (percents(100.0, 0.0, 100.0), Some(asks), "01"),
        (percents(0.0, 100.0, 100.0), Some(asks), "00"),
        (percents(100.0, 0.0, 100.0), Some(yes), "01"),
        (percents(0.0, 100.0, 100.0), Some(yes), "00"),
        (percents(100.0, 100.0, 0.0), Some(yes), "00"),
        (percents(100.0, 100.0, 100.0), Some(no), "00"),
        (percents(100.0, 100.0, 0.0), None, "00"),
    ];
    for (sampling, field, expect) in cases {
        let exporter = exporter(SpanProtocol::OtlpHttp, &collector);
        let fields: Vec<_> = field.into_iter().collect();
        let (_world, report) = traced(Telemetry { sampling, ..telemetry(Some(exporter)) }, &fields).await?;
        let (trace, span, flags) = traceparent(&report)?;
        assert_eq!(flags, expect, "{sampling:?} {field:?}");
        let continued = field.is_some_and(|(name, _)| name == "traceparent");
        assert_eq!(trace == TRACE, continued);
        if expect == "00" {
            assert_eq!(span == SPAN, continued, "a span that nobody records does not come between others");
        } else {
            // The requests before this one were not sampled.
            assert_eq!(collector.next().await?.spans()?.0[0].trace(), trace, "{sampling:?} {field:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_most_specific_record_applies_and_changes_by_reload() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (one, two) = (json!({ "name": "r1", "paths": ["/1"] }), json!({ "name": "r2", "paths": ["/2"] }));
    let other = json!({ "name": "o", "url": echo.url(), "routes": [{ "name": "o", "paths": ["/o"] }] });
    let service = json!({ "name": "s", "url": echo.url(), "routes": [one, two] });
    let yaml = file(json!({ "services": [service, other] }));
    let mut configuration = configured(&yaml, Vec::new())?;
    let named = |name: &str| {
        let routes = configuration.ir.routes.iter();
        routes
            .map(|(_, r)| r)
            .find(|r| r.origin.name.as_deref() == Some(name))
            .map(|r| (r.origin.id, r.action.backend().unwrap()))
    };
    let (route, backend) = named("r1").unwrap();
    let record = |format, precedence, scope| Telemetry {
        scope,
        precedence,
        propagation: Propagation { inject: vec![TraceInjection::Format(format)], ..Propagation::default() },
        ..telemetry(None)
    };
    let of_route = TelemetryScope { route: Some(route), ..TelemetryScope::default() };
    let of_backend = TelemetryScope { backend: Some(backend), ..TelemetryScope::default() };
    let table = &mut configuration.ir_mut().telemetry;
    table.insert(Id::from_u128(1), record(TraceFormat::W3c, 1, TelemetryScope::default()));
    table.insert(Id::from_u128(2), record(TraceFormat::B3Single, 2, of_backend));
    table.insert(Id::from_u128(3), record(TraceFormat::Jaeger, 3, of_route));
    let names = ["traceparent", "b3", "uber-trace-id"];
    let world = World::of(plugins(), configuration.clone())?;
    let mut client = H1Client::connect(world.http()).await?;
    let mut check = async |expect: [&str; 3]| {
        for (path, expect) in ["/1", "/2", "/o"].into_iter().zip(expect) {
            let response: Response = client.get(path, "a", &[]).await?;
            let report = response.json();
            let found: Vec<_> = names.into_iter().filter(|name| !sent_all(&report, name).is_empty()).collect();
            ensure!(found.join(" ") == expect, "{path}: {found:?} instead of {expect}");
        }
        anyhow::Ok(())
    };
    check(["uber-trace-id", "b3", "traceparent"]).await?;
    drop(configuration.ir_mut().telemetry.remove(&Id::from_u128(3)));
    world.serve_other(configuration.clone())?;
    check(["b3", "b3", "traceparent"]).await?;
    configuration
        .ir_mut()
        .telemetry
        .insert(Id::from_u128(1), record(TraceFormat::Jaeger, 9, TelemetryScope::default()));
    world.serve_other(configuration.clone())?;
    check(["uber-trace-id", "uber-trace-id", "uber-trace-id"]).await?;
    configuration.ir_mut().telemetry = Default::default();
    world.serve_other(configuration)?;
    check(["", "", ""]).await?;
    Ok(())
}

#[tokio::test]
async fn explain_says_what_is_traced_and_to_where() -> Result<()> {
    let collector = Collector::http(&[]).await;
    let to = exporter(SpanProtocol::OtlpHttp, &collector);
    let yaml = one("http://127.0.0.1:1", json!({}), json!({ "paths": ["/x"] }));
    let (explainer, diagnostics) = Explainer::new(configured(&yaml, vec![telemetry(Some(to.clone()))])?, plugins())?;
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let question = |url: &str, fields: &[(&str, &str)]| Question {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Question::default()
    };
    let decision = explainer.decide(&question("http://a/x", &[("traceparent", &parent("01"))]), 3).await?;
    let tracing = decision.tracing.expect("tracing");
    assert_eq!((tracing.policy.name.as_deref(), tracing.sampled), (Some("all"), true));
    assert_eq!(tracing.exporter, Some(format!("{} (otlp_http)", to.url)));
    let head = decision.upstream_head.unwrap_or_default();
    let line = head.lines().find(|line| line.starts_with("traceparent: ")).unwrap_or_else(|| panic!("{head}"));
    assert!(line.contains(TRACE) && !line.contains(SPAN) && line.ends_with("-01"), "{line}");
    // A request without a route is traced as well, unless its client decided against it.
    let decision = explainer.decide(&question("http://a/none", &[("traceparent", &parent("00"))]), 3).await?;
    assert_eq!(decision.tracing.map(|tracing| tracing.sampled), Some(false));
    let (explainer, _) = Explainer::new(configured(&yaml, Vec::new())?, plugins())?;
    assert_eq!(explainer.decide(&question("http://a/x", &[]), 3).await?.tracing, None);
    // Unusable settings are reported before they are applied.
    let bad = telemetry(Some(cardinal_ir::SpanExporter { url: "collector".into(), ..to }));
    let found = configured(&yaml, vec![bad])?.validate(plugins())?;
    assert!(matches!(&found[..], [one] if one.to_string().contains("exporter: url")), "{found:?}");
    Ok(())
}
