use std::net::SocketAddr;

use cardinal_balance::ProbeOutcome;
use cardinal_base::{Clock, ManualClock};
use cardinal_ir::{
    Active, Algorithm, Certificate, Cluster, Counts, Endpoint, HashInput, HealthChecks, Host, Id, Ir, KeyPair,
    NodeSettings, Origin, ProbeKind, Resolver, SecretKey, Secrets,
};
use cardinal_net::dns::Dns;
use cardinal_sdk::TargetHealth;
use cardinal_testkit::{
    Authority, EchoServer, Issued, Report, ScriptedPeer, Step, frame, free_port, until, while_time_passes,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::configuration::Configuration;
use crate::counters::Counters;
use crate::names::Names;
use crate::node::Shared;
use crate::plan::{Plan, PlanCx, Registry};

const GROUP: Id = Id::from_u128(1);
const CERTIFICATE: Id = Id::from_u128(9);

/// A node without a generation.
pub(crate) fn node(clock: Arc<dyn Clock>) -> Arc<Node> {
    let services = cardinal_sdk::Services {
        clock: Arc::clone(&clock),
        ..cardinal_sdk::testing::services(Arc::new(ManualClock::default()))
    };
    let dns = Dns::new(&Resolver::default(), Arc::clone(&clock), tokio::runtime::Handle::current()).unwrap();
    let shared = Shared {
        counters: vec![Counters::default()],
        registry: Registry::new(Arc::new(cardinal_base::SystemClock::new())).unwrap(),
        trust: Arc::default(),
    };
    Arc::new(Node::new(Arc::new(shared), services, Names::new(dns, clock), None))
}

/// Serves a generation.
pub(crate) fn publish(node: &Node, configuration: impl Into<Configuration>) {
    let previous = node.plan();
    let cx = PlanCx {
        plugins: &[],
        services: node.services.clone(),
        registry: &node.shared.registry,
        previous: previous.as_deref(),
    };
    let generation = node.generation() + 1;
    let (plan, diagnostics) =
        Plan::build(configuration.into(), generation, &cx).expect("a generation that can be served");
    assert_eq!(diagnostics, []);
    node.publish(plan);
}

/// A group `g` of these hosts.
pub(crate) fn ir(active: Active, hosts: &[(&str, u16)]) -> Ir {
    let mut ir = Ir::default();
    let origin = Origin::new("test", "upstreams", GROUP).named("g");
    let group = Cluster {
        origin,
        algorithm: Algorithm::RoundRobin,
        slots: 100,
        hash_on: HashInput::None,
        hash_fallback: HashInput::None,
        health: HealthChecks { active, ..HealthChecks::default() },
        document: "{}".into(),
        ..Cluster::default()
    };
    ir.clusters.insert(GROUP, group);
    for (number, (host, port)) in hosts.iter().enumerate() {
        let host = Host { host: (*host).into(), port: *port };
        let endpoint = Endpoint { origin: Origin::default(), cluster: GROUP, host, ..Endpoint::default() };
        ir.endpoints.insert(Id::from_u128(100 + number as u128), endpoint);
    }
    ir
}

fn active(kind: ProbeKind) -> Active {
    Active {
        kind,
        timeout_ms: 5_000,
        concurrency: 10,
        path: "/".into(),
        verify: true,
        healthy_interval_ms: 1_000,
        unhealthy_interval_ms: 1_000,
        counts: Counts {
            healthy_statuses: vec![200],
            successes: 1,
            unhealthy_statuses: vec![503],
            tcp_failures: 1,
            timeouts: 1,
            http_failures: 1,
        },
        ..Active::default()
    }
}

/// The outcome of probing this group's only endpoint.
async fn outcome(configuration: impl Into<Configuration>) -> ProbeOutcome {
    let clock = Arc::new(ManualClock::default());
    let node = node(Arc::clone(&clock) as Arc<dyn Clock>);
    publish(&node, configuration);
    clock.advance(Duration::from_secs(2));
    let group = node.shared.registry.group(&GROUP).unwrap();
    let probe = group.due(clock.tick()).remove(0);
    let prober = Prober::new(node);
    let probing = probe::run(&prober, &probe);
    // Time only advances for timeouts that are expected to expire.
    let step = if probe.settings.health.active.timeout_ms == SHORT_MS { 10 } else { 0 };
    while_time_passes("a probe", &clock, Duration::from_millis(step), probing).await.unwrap().0
}

/// The timeout of probes that are expected to time out.
const SHORT_MS: u64 = 50;

/// The server's reports, after it has received this many requests: probes end before.
async fn reports(echo: &EchoServer, count: usize) -> Vec<Report> {
    until("requests to end", || echo.seen().len() >= count).await.unwrap();
    echo.seen()
}

async fn check(active: Active, address: SocketAddr, expect: ProbeOutcome) {
    let shown = format!("{active:?}");
    let found = outcome(ir(active, &[(&address.ip().to_string(), address.port())])).await;
    assert_eq!(found, expect, "{shown}");
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    check(active(ProbeKind::Tcp), listener.local_addr().unwrap(), ProbeOutcome::Success).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    check(active(ProbeKind::Tcp), nobody, ProbeOutcome::TcpFailure).await;
    check(active(ProbeKind::Http), nobody, ProbeOutcome::TcpFailure).await;
    check(active(ProbeKind::Grpc), nobody, ProbeOutcome::TcpFailure).await;
}

#[tokio::test]
async fn statuses_are_reported() {
    let echo = EchoServer::start("a").await;
    for status in [200, 302, 503] {
        let path = format!("/some where?echo=status:{status}");
        let headers = vec![("X-Probe".into(), "1".into())];
        let active = Active { path: path.into(), headers, ..active(ProbeKind::Http) };
        check(active, echo.address(), ProbeOutcome::Status(status)).await;
    }
    let report = reports(&echo, 3).await.remove(0);
    assert_eq!((report.method.as_str(), report.target.as_str()), ("GET", "/some%20where?echo=status:200"));
    assert_eq!(report.headers.get("host"), Some("127.0.0.1"));
    assert_eq!((report.headers.get("x-probe"), report.headers.get("connection")), (Some("1"), Some("close")));
    let mut ir = ir(active(ProbeKind::Http), &[("127.0.0.1", echo.address().port())]);
    let group = Cluster { host_header: Some("b.example".into()), ..Cluster::clone(ir.clusters.get(&GROUP).unwrap()) };
    ir.clusters.insert(GROUP, group);
    assert_eq!(outcome(ir).await, ProbeOutcome::Status(200));
    assert_eq!(reports(&echo, 4).await[3].headers.all("host").collect::<Vec<_>>(), ["b.example"]);
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart() {
    for (play, expect) in [
        (vec![Step::until("\r\n\r\n"), Step::send("SSH-2.0-x\r\n")], ProbeOutcome::BadAnswer),
        (vec![Step::until("\r\n\r\n"), Step::send("x".repeat(10_000)), Step::Drain], ProbeOutcome::BadAnswer),
        (vec![Step::until("\r\n\r\n"), Step::send("HTTP/1.1 20")], ProbeOutcome::TcpFailure),
        (vec![Step::until("\r\n\r\n")], ProbeOutcome::TcpFailure),
    ] {
        let peer = ScriptedPeer::start(vec![play]).await;
        check(active(ProbeKind::Http), peer.address(), expect).await;
    }
    for kind in [ProbeKind::Http, ProbeKind::Https, ProbeKind::Grpc] {
        let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
        check(Active { timeout_ms: SHORT_MS, ..active(kind) }, peer.address(), ProbeOutcome::Timeout).await;
    }
}

/// A group whose probes trust this authority and present this certificate.
fn with_tls(active: Active, address: SocketAddr, authority: &Authority, shown: Option<&Issued>) -> Configuration {
    let mut ir = ir(active, &[("127.0.0.1", address.port())]);
    let mut secrets = Secrets::default();
    if let Some(issued) = shown {
        let key = secrets.add(&SecretKey::default(), &issued.key_pem);
        let pair = KeyPair { chain: issued.cert_pem.as_str().into(), key };
        let origin = Origin::default();
        ir.certificates.insert(CERTIFICATE, Certificate { origin, pairs: vec![pair], server_names: Vec::new() });
        let group =
            Cluster { client_certificate: Some(CERTIFICATE), ..Cluster::clone(ir.clusters.get(&GROUP).unwrap()) };
        ir.clusters.insert(GROUP, group);
    }
    let settings = NodeSettings { upstream_authorities: Some(authority.cert_pem().into()), ..Default::default() };
    Configuration::new(ir, settings).with_secrets(secrets)
}

#[tokio::test]
async fn tls_is_verified_by_the_name_that_is_asked_for() {
    let authority = Authority::new("ours");
    let server = authority.issue(&["a.test"]);
    let echo = EchoServer::start_tls("a", authority.server(&server, &["http/1.1"], false)).await;
    let named = Active { sni: Some("a.test".into()), ..active(ProbeKind::Https) };
    let ok = ProbeOutcome::Status(200);
    assert_eq!(outcome(with_tls(named.clone(), echo.address(), &authority, None)).await, ok);
    assert_eq!(reports(&echo, 1).await[0].sni.as_deref(), Some("a.test"));
    let unnamed = active(ProbeKind::Https);
    assert_eq!(outcome(with_tls(unnamed.clone(), echo.address(), &authority, None)).await, ProbeOutcome::TcpFailure);
    let stranger = Authority::new("theirs");
    let found = outcome(with_tls(named.clone(), echo.address(), &stranger, None)).await;
    assert_eq!(found, ProbeOutcome::TcpFailure);
    let unverified = Active { verify: false, ..unnamed };
    assert_eq!(outcome(with_tls(unverified, echo.address(), &stranger, None)).await, ok);
    assert!(reports(&echo, 2).await.iter().all(|report| !report.client_certificate));

    let strict = EchoServer::start_tls("b", authority.server(&server, &["http/1.1"], true)).await;
    let client = authority.issue(&["client"]);
    assert_eq!(outcome(with_tls(named.clone(), strict.address(), &authority, Some(&client))).await, ok);
    assert!(reports(&strict, 1).await[0].client_certificate);
    assert_eq!(outcome(with_tls(named, strict.address(), &authority, None)).await, ProbeOutcome::TcpFailure);
}

/// A gRPC server that responds to all calls with this message and status.
async fn grpc_server(
    message: Vec<u8>,
    grpc_status: &'static str,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        while let Ok((tcp, _)) = listener.accept().await {
            match &tls {
                None => answer_grpc(tcp, &message, grpc_status).await,
                Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(tcp).await {
                    Ok(tls) => answer_grpc(tls, &message, grpc_status).await,
                    Err(_) => continue,
                },
            }
        }
    };
    drop(task::spawn("gRPC server", serve));
    address
}

async fn answer_grpc(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    message: &[u8],
    grpc_status: &'static str,
) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!((request.method().as_str(), &request.headers()["te"]), ("POST", &"trailers".parse().unwrap()));
        assert_eq!(request.headers()["content-type"], "application/grpc");
        drop(request.body_mut().data());
        let head = http::Response::builder().header("content-type", "application/grpc");
        if message.is_empty() {
            respond.send_response(head.header("grpc-status", grpc_status).body(()).unwrap(), true).unwrap();
            continue;
        }
        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
        body.send_data(frame(message).into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", grpc_status.parse().unwrap());
        body.send_trailers(trailers).unwrap();
    }
}

#[tokio::test]
async fn grpc_servers_say_whether_they_serve() {
    for (message, status, expect) in [
        (vec![0x08, 1], "0", ProbeOutcome::Success),
        (vec![0x08, 2], "0", ProbeOutcome::BadAnswer),
        (vec![0x08, 1], "14", ProbeOutcome::BadAnswer),
        (vec![0xff], "0", ProbeOutcome::BadAnswer),
        (vec![0x08; 100_000], "0", ProbeOutcome::BadAnswer),
        (Vec::new(), "12", ProbeOutcome::BadAnswer),
    ] {
        let address = grpc_server(message, status, None).await;
        check(active(ProbeKind::Grpc), address, expect).await;
    }
    let peer = ScriptedPeer::start(vec![vec![Step::until("PRI * HTTP/2.0"), Step::send(ANSWER_H1), Step::Drain]]).await;
    check(active(ProbeKind::Grpc), peer.address(), ProbeOutcome::BadAnswer).await;
}

const ANSWER_H1: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn grpc_over_tls_needs_http2() {
    let authority = Authority::new("ours");
    let server = authority.issue(&["a.test"]);
    let grpcs = Active { sni: Some("a.test".into()), ..active(ProbeKind::Grpcs) };
    let address = grpc_server(vec![0x08, 1], "0", Some(authority.server(&server, &["h2"], false))).await;
    assert_eq!(outcome(with_tls(grpcs.clone(), address, &authority, None)).await, ProbeOutcome::Success);
    let address = grpc_server(vec![0x08, 1], "0", Some(authority.server(&server, &[], false))).await;
    assert_eq!(outcome(with_tls(grpcs, address, &authority, None)).await, ProbeOutcome::BadAnswer);
}

fn states(node: &Node) -> Vec<(String, &'static str)> {
    targets(&node.shared.registry).into_iter().map(|t| (t.target.into(), t.state)).collect()
}

/// Waits for these states, while time advances.
async fn until_states(node: &Node, clock: &ManualClock, expect: &[(String, &'static str)]) {
    let same = until("health to change", || states(node) == expect);
    let waited = while_time_passes("health to change", clock, Duration::from_millis(5), same).await;
    if waited.is_err() {
        assert_eq!(states(node), expect);
    }
}

#[tokio::test]
async fn probes_change_what_is_told_of_targets() {
    let echo = EchoServer::start("a").await;
    let (up, down) = (echo.address().port(), free_port());
    let clock = Arc::new(ManualClock::default());
    let node = node(Arc::clone(&clock) as Arc<dyn Clock>);
    let probing = task::spawn("probes", run_probes(Arc::clone(&node)));
    // A later generation is probed, too.
    let active = Active { healthy_interval_ms: 20, unhealthy_interval_ms: 20, ..active(ProbeKind::Http) };
    publish(&node, ir(active.clone(), &[("127.0.0.1", up), ("127.0.0.1", down)]));
    let (up_name, down_name) = (format!("127.0.0.1:{up}"), format!("127.0.0.1:{down}"));
    let mut expect = vec![(up_name.clone(), "healthy"), (down_name.clone(), "unhealthy")];
    expect.sort();
    until_states(&node, &clock, &expect).await;
    // The other endpoint starts.
    let address = SocketAddr::from(([127, 0, 0, 1], down));
    let second = EchoServer::start_at(address, "b", None).await.unwrap();
    for state in &mut expect {
        state.1 = "healthy";
    }
    until_states(&node, &clock, &expect).await;
    assert!(second.requests() > 0);
    let group = node.shared.registry.group(&GROUP).unwrap();
    until("events to be told", || group.take_events().is_empty()).await.unwrap();
    probing.abort();
}

#[tokio::test]
async fn targets_are_named_as_users_know_them() {
    let node = node(Arc::new(ManualClock::default()));
    assert_eq!(targets(&node.shared.registry), []);
    publish(&node, ir(Active::default(), &[("127.0.0.1", 80), ("::1", 81), ("name.test", 82)]));
    let found = targets(&node.shared.registry);
    let row = |target: &str, address: &str, state| TargetHealth {
        upstream: "g".into(),
        target: target.into(),
        address: address.into(),
        state,
    };
    let expect = [
        row("127.0.0.1:80", "127.0.0.1:80", "healthchecks_off"),
        row("[::1]:81", "[::1]:81", "healthchecks_off"),
        row("name.test:82", "", "dns_error"),
    ];
    assert_eq!(found, expect);
}
