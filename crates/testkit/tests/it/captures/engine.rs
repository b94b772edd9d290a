//! Captured connections through the whole engine: routes go by the original destination.

use cardinal_engine::{Configuration, Engine, Options};
use cardinal_ir::{
    Action, AddrMatch, Backend, Criteria, Host, HttpVersion, Ir, Listener, ListenerGroup, ListenerKind, NodeSettings,
    Origin, Rank, Route, Target, Timeouts, Traffic,
};
use cardinal_testkit::{EchoServer, H1Client, StreamEcho};

use super::*;

const GROUP: Id = Id::from_u128(1);
const LISTENER: Id = Id::from_u128(2);

/// A route for what goes to this port, of the group that captures.
fn route(ir: &mut Ir, number: u128, port: u16, traffic: Traffic, to: SocketAddr) {
    let (backend, id) = (Id::from_u128(10 + number), Id::from_u128(20 + number));
    let host = Host { host: to.ip().to_string().into(), port: to.port() };
    ir.backends.insert(
        backend,
        Backend {
            origin: Origin::new("test", "backends", backend),
            http: (traffic == Traffic::Http).then_some(HttpVersion::H1),
            target: Target::Host(host),
            timeouts: Timeouts { connect_ms: 5_000, read_ms: 20_000, write_ms: 20_000, ..Timeouts::default() },
            document: "{}".into(),
            ..Backend::default()
        },
    );
    let destinations = vec![AddrMatch { net: "192.0.2.1/32".parse().ok(), port: Some(port) }];
    ir.routes.insert(
        id,
        Route {
            origin: Origin::new("test", "routes", id),
            group: Some(GROUP),
            rank: Rank { weight: 1, tie: number },
            traffic,
            matches: Criteria { destinations, ..Criteria::default() }.into(),
            action: Action::Forward(backend),
            document: "{}".into(),
            ..Route::default()
        },
    );
}

/// HTTP, bytes, and a port that no route knows; and what is not captured is closed.
#[tokio::test]
async fn captured_connections_take_the_route_of_their_destination() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables") else { return };
    let name = "captures::engine::captured_connections_take_the_route_of_their_destination";
    if !isolated(PACKAGE, name, Isolation::Network) {
        return;
    }
    network();
    let (echo, bytes) = (EchoServer::start("echo").await, StreamEcho::tcp().await);
    let mut ir = Ir::default();
    ir.listener_groups
        .insert(GROUP, ListenerGroup { origin: Origin::new("test", "groups", GROUP), name: "outbound".into() });
    let listener = Listener {
        origin: Origin::new("test", "listeners", LISTENER),
        group: Some(GROUP),
        name: "outbound".into(),
        address: at("0.0.0.0:0"),
        kind: ListenerKind::Detect,
        capture: cardinal_ir::Capture::Redirect,
        ..Listener::default()
    };
    ir.listeners.insert(LISTENER, listener);
    route(&mut ir, 1, 80, Traffic::Http, echo.address());
    route(&mut ir, 2, 9_000, Traffic::Stream, bytes.address());
    let options = Options { workers: 1, ..Options::default() };
    let (engine, applied) = Engine::start(Configuration::new(ir, NodeSettings::default()), options).unwrap();
    assert!(applied.diagnostics.is_empty(), "{:?}", applied.diagnostics);
    let own = engine.addresses()[0].1;
    redirect(None, own.port(), own.port());
    let mut client = H1Client::connect(at("192.0.2.1:80")).await.unwrap();
    let seen = client.get("/", "a.test", &[]).await.unwrap();
    assert_eq!(seen.status, 200, "{}", seen.text());
    let mut raw = TcpStream::connect(at("192.0.2.1:9000")).await.unwrap();
    raw.write_all(b"\x00 no HTTP").await.unwrap();
    let mut answer = [0; 9];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x00 no HTTP");
    let mut elsewhere = H1Client::connect(at("192.0.2.1:81")).await.unwrap();
    assert_eq!(elsewhere.get("/", "a.test", &[]).await.unwrap().status, 404);
    for itself in
        [SocketAddr::new(at("127.0.0.1:0").ip(), own.port()), SocketAddr::new(at("192.0.2.1:0").ip(), own.port())]
    {
        assert_eq!(ask(itself).await, "", "a connection that was not captured is closed");
    }
}
