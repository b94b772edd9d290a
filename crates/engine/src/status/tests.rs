use std::net::SocketAddr;

use cardinal_base::{Clock, ManualClock, SystemClock, task};
use cardinal_ir::{Active, Ir, NodeCertificate, Origin, PemPair};
use cardinal_testkit::{Authority, H1Client, Response, Socket, while_time_passes, within};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

use super::*;
use crate::configuration::Configuration;
use crate::health::tests::{ir, node, publish};

struct Bench {
    node: Arc<Node>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Bench {
    async fn new(tls: bool) -> Self {
        Self::with_clock(tls, Arc::new(SystemClock::new())).await
    }

    async fn with_clock(tls: bool, clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = node(clock);
        let serving = task::spawn("status", serve(Arc::clone(&node), listener, tls));
        Self { node, address, serving }
    }

    async fn get(&self, target: &str) -> Response {
        let mut client = H1Client::connect(self.address).await.unwrap();
        client.get(target, "status", &[]).await.unwrap()
    }

    async fn check(&self, target: &str, status: u16, expect: Value) {
        let found = self.get(target).await;
        assert_eq!((found.status, found.json()), (status, expect), "{target}");
    }
}

fn one_group() -> Ir {
    ir(Active::default(), &[("127.0.0.1", 1)])
}

#[tokio::test]
async fn readiness_says_why_not() {
    let bench = Bench::new(false).await;
    let not = |reason: &str| json!({ "message": reason });
    bench.check("/status/ready", 503, not("no configuration")).await;
    publish(&bench.node, Ir::default());
    bench.check("/status/ready", 503, not("the configuration is empty")).await;
    publish(&bench.node, one_group());
    bench.check("/status/ready", 200, json!({ "message": "ready" })).await;
    bench.node.start_draining();
    bench.check("/status/ready", 503, json!({ "message": "draining" })).await;
}

#[tokio::test]
async fn the_status_is_that_of_the_node() {
    let bench = Bench::new(false).await;
    assert_eq!(bench.get("/status").await.json()["configuration_hash"], Value::Null);
    publish(&bench.node, Ir::default());
    let counters = &bench.node.shared.counters[0];
    counters.accepted();
    counters.accepted();
    counters.request_started();
    let response = bench.get("/status").await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json; charset=utf-8")));
    let status = response.json();
    assert_eq!(status["connections"], json!({"accepted": 2, "active": 2, "serving": 1, "idle": 1}));
    assert_eq!((&status["requests"], &status["node"]["generation"]), (&json!(1), &json!(1)));
    assert_eq!(status["configuration_hash"], "0".repeat(32));
    assert!(status["process"]["resident_bytes"].as_u64().unwrap() > 0);
    publish(&bench.node, one_group());
    let hash = bench.get("/status").await.json()["configuration_hash"].take();
    assert!(hash.as_str().is_some_and(|h| h.len() == 32 && h != "0".repeat(32)), "{hash}");
    publish(&bench.node, one_group());
    assert_eq!(bench.get("/status").await.json()["configuration_hash"], hash);
    publish(&bench.node, ir(Active::default(), &[("127.0.0.1", 2)]));
    assert_ne!(bench.get("/status").await.json()["configuration_hash"], hash);
}

#[tokio::test]
async fn metrics_are_those_of_plugins_and_of_the_engine() {
    let bench = Bench::new(false).await;
    bench.node.services.shared.set_collector("x", Arc::new(|text: &mut String| text.push_str("plugin_x 1")));
    bench.node.shared.counters[0].failed(cardinal_http::FailureKind::NoRoute);
    bench.node.shared.counters[0].refused();
    bench.node.shared.counters[0].retried(crate::policy::retry::Reason::GrpcStatus);
    bench.node.shared.counters[0].retry_budget_exhausted();
    publish(&bench.node, Ir::default());
    let response = bench.get("/metrics").await;
    assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
    let text = response.text();
    assert!(text.starts_with("plugin_x 1\n# HELP cardinal_"), "{text}");
    for line in [
        "cardinal_failures_total{kind=\"no_route\"} 1",
        "cardinal_failures_total{kind=\"bad_request\"} 0",
        "# TYPE cardinal_failures_total counter",
        "cardinal_connections_refused_total 1",
        "# TYPE cardinal_upstream_retries_total counter",
        "cardinal_upstream_retries_total{reason=\"grpc_status\"} 1",
        "cardinal_upstream_retries_total{reason=\"reset\"} 0",
        "cardinal_upstream_retry_budget_exhausted_total 1",
        "cardinal_generation 1",
        "cardinal_draining 0",
        "cardinal_workers 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    assert!(text.lines().all(|l| l.starts_with("# ") || l.split(' ').count() == 2), "{text}");
    bench.check("/status/dns", 200, json!({ "worker": { "count": 1 }, "stats": { "names": 0 } })).await;
}

#[tokio::test]
async fn only_what_is_there_is_answered() {
    let bench = Bench::new(false).await;
    for target in ["/", "/status/", "/statusx", "/metrics/x", "*"] {
        let mut client = H1Client::connect(bench.address).await.unwrap();
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let response = client.request(method, target, "status", &[], b"").await.unwrap();
        assert_eq!((response.status, response.json()), (404, json!({ "message": "Not found" })), "{target}");
    }
    let mut client = H1Client::connect(bench.address).await.unwrap();
    let response = client.request("POST", "/status/ready", "status", &[], b"").await.unwrap();
    assert_eq!((response.status, response.json()), (405, json!({ "message": "Method not allowed" })));
    assert_eq!(response.header("allow"), Some("GET, HEAD"));
    // The same connection is served until a limit is reached.
    let head = client.request("HEAD", "/status/dns", "status", &[], b"").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_ne!(head.header("content-length"), Some("0"));
    let last = client.get("/status/dns", "status", &[("Connection", "close")]).await.unwrap();
    assert_eq!(last.header("connection"), Some("close"));
    assert!(client.get("/status/dns", "status", &[]).await.is_err());
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let bench = Bench::new(false).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(server::TARGET_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(server::HEADER_COUNT_MAX));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(server::HEAD_BYTES_MAX));
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (&long, 414),
        (&many, 431),
        (&large, 431),
    ] {
        let mut client = H1Client::connect(bench.address).await.unwrap();
        client.send(request).await.unwrap();
        let response = client.response().await.unwrap();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")));
        within("the end", client.read_to_end()).await.unwrap().unwrap();
    }
    // A body is not read, so a request after it is not read either.
    let mut client = H1Client::connect(bench.address).await.unwrap();
    let response = client.request("GET", "/status/dns", "status", &[], b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn connections_are_bounded_and_end_with_the_server() {
    let bench = Bench::new(false).await;
    let mut open = Vec::new();
    for _ in 0..server::CONNECTIONS_MAX {
        let mut client = H1Client::connect(bench.address).await.unwrap();
        assert_eq!(client.get("/status/dns", "status", &[]).await.unwrap().status, 200);
        open.push(client);
    }
    let mut refused = Socket::connect(bench.address).await.unwrap();
    let mut rest = Vec::new();
    let ended = within("the end", refused.read_to_end(&mut rest)).await.unwrap();
    assert!(ended.is_err() || rest.is_empty());
    bench.serving.abort();
    for mut client in open {
        // The task ends when it is next polled, so the first request might still be served.
        assert!(
            within("the end of a connection", client.read_to_end()).await.unwrap().is_ok_and(|rest| rest.is_empty())
        );
    }
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    const STEP: std::time::Duration = std::time::Duration::from_millis(500);
    let clock = Arc::new(ManualClock::default());
    let (plain, tls) = (Bench::with_clock(false, clock.clone()).await, Bench::with_clock(true, clock.clone()).await);
    publish(&tls.node, one_group());
    let mut idle = H1Client::connect(plain.address).await.unwrap();
    assert_eq!(idle.get("/status/dns", "status", &[]).await.unwrap().status, 200);
    // An incomplete head, and a handshake that is not started.
    let mut half = H1Client::connect(plain.address).await.unwrap();
    half.send("GET /status/dns HTTP/1.1\r\nHost:").await.unwrap();
    let mut silent = H1Client::connect(tls.address).await.unwrap();
    for client in [&mut half, &mut silent] {
        let rest = while_time_passes("a slow client to be cut off", &clock, STEP, client.read_to_end()).await.unwrap();
        assert!(rest.unwrap().is_empty());
    }
    let passed = clock.tick().since(cardinal_base::Tick(0));
    assert!(passed >= paced::STEP_TIMEOUT && passed < paced::IDLE_TIMEOUT, "{passed:?}");
    // An idle connection has more time, from its last request.
    assert_eq!(idle.get("/status/dns", "status", &[]).await.unwrap().status, 200);
    let last = clock.tick();
    while_time_passes("an idle connection to end", &clock, STEP, idle.read_to_end()).await.unwrap().unwrap();
    assert!(clock.tick().since(last) >= paced::IDLE_TIMEOUT);
}

#[tokio::test]
async fn a_client_that_takes_no_response_is_cut_off() {
    use tokio::io::AsyncWriteExt as _;
    let clock = Arc::new(ManualClock::default());
    let (ours, _theirs) = tokio::io::duplex(16);
    let mut io = paced::Paced::new(cardinal_net::Io::Memory(ours), clock.clone(), Arc::default());
    let sent = async { io.write_all(&[b'x'; 100]).await };
    let step = std::time::Duration::from_secs(1);
    let sent = while_time_passes("a write to fail", &clock, step, sent).await.unwrap();
    assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(clock.tick().since(cardinal_base::Tick(0)), paced::STEP_TIMEOUT);
}

#[tokio::test]
async fn a_connection_serves_a_bounded_number_of_requests() {
    let bench = Bench::new(false).await;
    let mut client = H1Client::connect(bench.address).await.unwrap();
    for number in 1..=server::REQUESTS_MAX {
        let response = client.get("/status/dns", "status", &[]).await.unwrap();
        let last = number == server::REQUESTS_MAX;
        assert_eq!((response.status, response.header("connection")), (200, last.then_some("close")), "{number}");
    }
}

#[tokio::test]
async fn tls_follows_the_generation() {
    let bench = Bench::new(true).await;
    let connect = async |authority: &Authority| {
        let config = authority.client(None, &["http/1.1"]);
        H1Client::connect_tls(bench.address, "status.test", config).await
    };
    for name in ["first", "second"] {
        let authority = Authority::new(name);
        assert!(connect(&authority).await.is_err());
        let issued = authority.issue(&["status.test"]);
        let mut configuration = Configuration::from(one_group());
        let pair = PemPair { chain: issued.cert_pem.as_str().into(), key: issued.key_pem.as_str().into() };
        let certificate = NodeCertificate { origin: Origin::default(), pairs: vec![pair] };
        let settings = configuration.node_mut();
        settings.default_certificate = Some(certificate);
        // Clients of the proxy would have to present a certificate.
        settings.client_authorities = Some(authority.cert_pem().into());
        settings.client_certificate_required = true;
        publish(&bench.node, configuration);
        let mut client = connect(&authority).await.unwrap();
        assert_eq!(client.get("/status/ready", "status", &[]).await.unwrap().status, 200);
    }
}
