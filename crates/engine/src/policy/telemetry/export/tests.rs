//! Exported requests, and the interpretation of responses.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardinal_http::HeaderList;
use cardinal_ir::{Origin, SpanExporter, SpanProtocol, Telemetry};
use cardinal_sdk::queue::DeliveryError;
use cardinal_sdk::trace::{SpanId, TraceId};
use cardinal_sdk::{CallError, GrpcCall, GrpcReply, HttpCall, HttpCaller, HttpReply, Services};
use prost::Message as _;
use serde_json::{Value as Json, json};

use super::proto::{Any, ExportRequest};
use super::*;
use crate::policy::telemetry::span::{Kind, Span, Value};

/// A request for a batch with [`spans`], as the reference implementation of OTLP serialises it.
const REQUEST: &[u8] = include_bytes!("testdata/request.binpb");
/// `ExportTraceServiceResponse` with 3 rejected spans, "too old".
const PARTIAL: &[u8] = b"\x0a\x0b\x08\x03\x12\x07too old";
/// `google.rpc.Status` with a `RetryInfo` of 2.5 seconds.
const BUSY: &[u8] =
    b"\x08\x08\x12\x04busy\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x02\x10\x80\xca\xb5\xee\x01";

fn spans() -> Vec<Span> {
    let trace_id = TraceId::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c).unwrap();
    let id = |id| SpanId::new(id).unwrap();
    let text = |text: &'static str| Value::Text(text.into());
    let server = Span {
        trace_id,
        id: id(0xa1),
        parent: Some(id(0xb7ad_6b71_6920_3331)),
        parent_is_remote: true,
        trace_state: "a=1".to_owned(),
        kind: Kind::Server,
        name: "GET r".to_owned(),
        start_ns: 1_700_000_000_000_000_000,
        end_ns: 1_700_000_000_005_000_000,
        attributes: vec![
            ("http.request.method".into(), text("GET")),
            ("http.response.status_code".into(), Value::Number(502)),
            ("error.type".into(), text("upstream_reset")),
        ],
        is_error: true,
    };
    let client = Span {
        id: id(0xa2),
        parent: Some(id(0xa1)),
        parent_is_remote: false,
        trace_state: String::new(),
        kind: Kind::Client,
        start_ns: 1_700_000_000_001_000_000,
        end_ns: 1_700_000_000_004_000_000,
        attributes: vec![("negative".into(), Value::Number(-1))],
        is_error: false,
        ..server.clone()
    };
    vec![server, client]
}

fn resource() -> Resource {
    let attributes = vec![("service.name".into(), "shop".into()), ("service.version".into(), "v".into())];
    Resource { attributes, version: "9.9.9" }
}

#[test]
fn otlp_is_what_the_reference_implementation_sends() {
    let body = otlp::encode(&resource(), [&Finished::new(spans())].into_iter());
    assert_eq!(body, REQUEST);
    assert_eq!(otlp::rejected(PARTIAL), Some((3, "too old".to_owned())));
    assert_eq!(otlp::rejected(b""), None);
    assert_eq!(otlp::rejected(b"\xff\xff"), None);
}

#[test]
fn zipkin_gets_spans_in_its_own_form() {
    let mut spans = spans();
    spans[1].attributes = vec![
        ("network.peer.address".into(), Value::Text("10.0.0.1".into())),
        ("network.peer.port".into(), Value::Number(80)),
    ];
    spans[1].end_ns = spans[1].start_ns;
    let body: Json = serde_json::from_slice(&zipkin::encode(&resource(), [&Finished::new(spans)].into_iter())).unwrap();
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let expect = json!([
        {
            "traceId": trace_id, "id": "00000000000000a1", "parentId": "b7ad6b7169203331", "kind": "SERVER",
            "name": "GET r", "timestamp": 1_700_000_000_000_000_u64, "duration": 5_000,
            "localEndpoint": { "serviceName": "shop" },
            "tags": {
                "service.version": "v", "http.request.method": "GET", "http.response.status_code": "502",
                "error.type": "upstream_reset", "error": "upstream_reset",
            },
        },
        {
            "traceId": trace_id, "id": "00000000000000a2", "parentId": "00000000000000a1", "kind": "CLIENT",
            "name": "GET r", "timestamp": 1_700_000_000_001_000_u64, "duration": 1,
            "localEndpoint": { "serviceName": "shop" }, "remoteEndpoint": { "ipv4": "10.0.0.1", "port": 80 },
            "tags": { "service.version": "v", "network.peer.address": "10.0.0.1", "network.peer.port": "80" },
        },
    ]);
    assert_eq!(body, expect);
}

#[test]
fn datadog_gets_traces_in_its_own_form() {
    let finished = Finished::new(spans());
    let body: Json = serde_json::from_slice(&datadog::encode(&resource(), [&finished].into_iter())).unwrap();
    let expect = json!({
        "trace_id": 0x8448_eb21_1c80_319c_u64, "span_id": 0xa1, "parent_id": 0xb7ad_6b71_6920_3331_u64,
        "service": "shop", "name": "http.server.request", "resource": "GET r", "type": "web",
        "start": 1_700_000_000_000_000_000_u64, "duration": 5_000_000, "error": 1,
        "meta": {
            "service.version": "v", "http.request.method": "GET", "http.status_code": "502",
            "error.type": "upstream_reset", "span.kind": "server", "_dd.p.tid": "0af7651916cd43dd",
        },
        "metrics": { "_sampling_priority_v1": 1 },
    });
    assert_eq!(body[0][0], expect);
    let client = &body[0][1];
    assert_eq!((&client["name"], &client["type"]), (&json!("http.client.request"), &json!("http")));
    assert_eq!(client["metrics"], json!({ "negative": -1, "_sampling_priority_v1": 1 }));
}

/// A collector with scripted responses that records the requests.
#[derive(Default)]
struct Collector {
    http: Mutex<VecDeque<Result<HttpReply, CallError>>>,
    grpc: Mutex<VecDeque<Result<GrpcReply, CallError>>>,
    calls: Mutex<Vec<HttpCall>>,
    grpc_calls: Mutex<Vec<GrpcCall>>,
}

impl HttpCaller for Collector {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        self.calls.lock().unwrap().push(call);
        let reply = self.http.lock().unwrap().pop_front().unwrap();
        Box::pin(async move { reply })
    }

    fn grpc(&self, call: GrpcCall) -> Pin<Box<dyn Future<Output = Result<GrpcReply, CallError>> + Send>> {
        self.grpc_calls.lock().unwrap().push(call);
        let reply = self.grpc.lock().unwrap().pop_front().unwrap();
        Box::pin(async move { reply })
    }
}

fn sender(collector: &Arc<Collector>, exporter: SpanExporter) -> (Sender, Services) {
    let mut services = crate::offline::offline_services(&cardinal_ir::NodeSettings::default());
    services.http = Arc::clone(collector) as Arc<dyn HttpCaller>;
    let origin = Origin::new("test", "tracing", cardinal_ir::Id::from_u128(1));
    let resource = vec![("service.name".into(), "shop".into())];
    let record = Telemetry { origin, resource, ..Telemetry::default() };
    (Sender::new(&record, &exporter, &services).unwrap(), services)
}

fn exporter(protocol: SpanProtocol) -> SpanExporter {
    let headers = vec![("x-key".into(), "k".into())];
    SpanExporter { protocol, url: "http://c:1/v1".into(), headers, timeout_ms: 7_000, ..SpanExporter::default() }
}

async fn send(sender: &Sender) -> Result<(), DeliveryError> {
    let finished = Arc::new(Finished::new(spans()));
    sender.send(&[Entry { finished, counters: Arc::clone(&sender.counters) }]).await
}

fn http(status: u16, fields: &[(&str, &str)], body: &'static [u8]) -> Result<HttpReply, CallError> {
    let mut headers = HeaderList::new();
    for (name, value) in fields {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    Ok(HttpReply { status, headers, body: Bytes::from_static(body) })
}

/// Whether and after which delay a batch is sent again; `None` once it has been delivered.
type Again = Option<(bool, Option<Duration>)>;

fn again(outcome: Result<(), DeliveryError>) -> Again {
    outcome.err().map(|error| (!error.is_final, error.retry_after))
}

#[tokio::test]
async fn statuses_tell_whether_to_send_again() {
    let dates = [("Date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("Retry-After", "Wed, 21 Oct 2015 07:28:30 GMT")];
    let cases: [(_, Again); 12] = [
        (http(200, &[], b""), None),
        (http(202, &[], b"?"), None),
        (http(503, &[("Retry-After", "5")], b""), Some((true, Some(Duration::from_secs(5))))),
        (http(429, &dates, b""), Some((true, Some(Duration::from_secs(30))))),
        (http(429, &dates[1..], b""), Some((true, None))),
        (http(502, &[("Retry-After", "soon")], b""), Some((true, None))),
        (http(504, &[], b""), Some((true, None))),
        (http(400, &[], b"bad"), Some((false, None))),
        (http(500, &[], b""), Some((false, None))),
        (http(301, &[], b""), Some((false, None))),
        (Err(CallError::Timeout), Some((true, None))),
        (Err(CallError::TooLarge(1)), Some((false, None))),
    ];
    for (reply, expect) in cases {
        let shown = format!("{reply:?}");
        let collector = Arc::new(Collector::default());
        collector.http.lock().unwrap().push_back(reply);
        let (sender, _) = sender(&collector, exporter(SpanProtocol::OtlpHttp));
        assert_eq!(again(send(&sender).await), expect, "{shown}");
    }
    let collector = Arc::new(Collector::default());
    collector.http.lock().unwrap().push_back(Err(CallError::Local("no descriptors".to_owned())));
    let (sender, _) = sender(&collector, exporter(SpanProtocol::OtlpHttp));
    assert!(send(&sender).await.unwrap_err().is_local);
}

#[tokio::test]
async fn grpc_statuses_tell_whether_to_send_again() {
    let status = |status, details: &'static [u8]| {
        Ok(GrpcReply { status, details: Bytes::from_static(details), ..GrpcReply::default() })
    };
    let pause = Some(Duration::from_millis(2_500));
    let retried = [1, 4, 10, 11, 14, 15].map(|code| (status(code, b""), Some((true, None))));
    let refused = [2, 3, 5, 6, 7, 8, 9, 12, 13, 16].map(|code| (status(code, b""), Some((false, None))));
    let others = [
        (status(0, b""), None),
        (status(8, BUSY), Some((true, pause))),
        (status(14, BUSY), Some((true, pause))),
        (status(8, b"\xff"), Some((false, None))),
        (Err(CallError::Transport("reset".to_owned())), Some((true, None))),
    ];
    for (reply, expect) in retried.into_iter().chain(refused).chain(others) {
        let shown = format!("{reply:?}");
        let collector = Arc::new(Collector::default());
        collector.grpc.lock().unwrap().push_back(reply);
        let url = "https://c:4317/".into();
        let (sender, _) = sender(&collector, SpanExporter { url, ..exporter(SpanProtocol::OtlpGrpc) });
        assert_eq!(again(send(&sender).await), expect, "{shown}");
        let calls = collector.grpc_calls.lock().unwrap();
        assert_eq!(calls[0].url, "https://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(calls[0].metadata.get(b"x-key"), Some(b"k".as_slice()));
        assert_eq!(calls[0].timeout, Duration::from_secs(7));
    }
}

#[tokio::test]
async fn calls_say_what_they_carry() {
    let collector = Arc::new(Collector::default());
    for (protocol, gzip) in
        [(SpanProtocol::OtlpHttp, true), (SpanProtocol::Zipkin, false), (SpanProtocol::Datadog, false)]
    {
        collector.http.lock().unwrap().push_back(http(202, &[], b""));
        let (sender, _) = sender(&collector, SpanExporter { gzip, insecure: true, ..exporter(protocol) });
        send(&sender).await.unwrap();
    }
    let calls = collector.calls.lock().unwrap();
    let field =
        |number: usize, name: &[u8]| calls[number].headers.get(name).map(|value| str::from_utf8(value).unwrap());
    let fields =
        |number: usize| (&*calls[number].method, field(number, b"content-type"), field(number, b"content-encoding"));
    assert_eq!(fields(0), ("POST", Some("application/x-protobuf"), Some("gzip")));
    assert_eq!(fields(1), ("POST", Some("application/json"), None));
    assert_eq!(fields(2), ("PUT", Some("application/json"), None));
    assert_eq!(field(2, b"x-datadog-trace-count"), Some("1"));
    assert!(calls.iter().all(|call| call.url == "http://c:1/v1" && call.insecure));
    assert!((0..3).all(|number| field(number, b"x-key") == Some("k")));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*calls[0].body).read_to_end(&mut plain).unwrap();
    let request = ExportRequest::decode(&*plain).unwrap();
    let attributes = &request.resource_spans[0].resource.as_ref().unwrap().attributes;
    let shown: Vec<_> = attributes.iter().map(|attribute| &*attribute.key).collect();
    assert_eq!(shown, ["service.name", "service.version", "service.instance.id"]);
    let name = attributes[0].value.as_ref().and_then(|value| value.value.clone());
    assert_eq!(name, Some(Any::Text("shop".to_owned())), "the record's own value holds");
}

#[tokio::test]
async fn spans_are_counted_by_what_became_of_them() {
    let collector = Arc::new(Collector::default());
    let (sender, services) = sender(&collector, exporter(SpanProtocol::OtlpHttp));
    let counters = Counters::of(&services);
    collector.http.lock().unwrap().push_back(http(200, &[], b""));
    send(&sender).await.unwrap();
    assert_eq!(counters.exported(), 2);
    // A collector that rejects three of two spans: at most two are counted.
    collector.http.lock().unwrap().push_back(http(200, &[], PARTIAL));
    send(&sender).await.unwrap();
    assert_eq!(counters.exported(), 2);
    let entry = Entry { finished: Arc::new(Finished::new(spans())), counters: Arc::clone(&counters) };
    assert!(queue::Entry::size(&entry) > 2 * size_of::<Span>());
    for (loss, times) in [(Loss::NoRoom, 1), (Loss::Undelivered, 2), (Loss::Refused, 3)] {
        (0..times).for_each(|_| queue::Entry::lost(&entry, loss));
    }
    let dropped: Vec<_> = counters.dropped().collect();
    assert_eq!(dropped, [("queue_full", 2), ("undelivered", 4), ("refused", 6), ("rejected", 2)]);
}
