//! Changes of listeners that must not open a way around what they protect, nor lose connections.

use anyhow::{Result, ensure};
use cardinal_ir::{Id, Ir, Listener, ListenerGroup, ListenerKind, Traffic};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Socket, StreamEcho, free_port, unverified_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::front::{Domain, Front, GROUP, LISTENER, ROUTE, listener, origin, route};
use crate::scene::eventually;

const OTHER: Id = Id::from_u128(40);
const OTHER_GROUP: Id = Id::from_u128(41);

/// A second listener like the first.
fn other(ir: &mut Ir, change: impl FnOnce(&mut Listener)) {
    let mut other = Listener::clone(ir.listeners.get(&LISTENER).unwrap());
    (other.origin, other.name) = (origin("listeners", OTHER), "other".into());
    change(&mut other);
    ir.listeners.insert(OTHER, other);
}

/// A connection that has not begun its handshake when its listener goes is not served with less than the listener asked
/// for.
#[tokio::test]
async fn a_handshake_after_its_listener_is_gone_is_refused() -> Result<()> {
    let bytes = StreamEcho::tcp().await;
    let domain = Domain::new("example.org");
    let mut front = Front::start(Ir::default());
    let found = front.change(|ir| {
        domain.join(ir, "/far");
        listener(ir, |listener| {
            (listener.kind, listener.proxy_protocol) = (ListenerKind::Stream, true);
            listener.tls = domain.server(&["/near"]);
        });
        route(ir, Some(GROUP), bytes.address(), |_, route| route.traffic = Traffic::Stream);
    });
    assert_eq!(found, [""; 0]);
    let mut socket = Socket::connect(front.address(LISTENER)).await?;
    assert!(eventually(|| front.engine.totals().accepted == 1).await);
    front.change(|ir| drop(ir.listeners.remove(&LISTENER)));
    socket.write_all(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n").await?;
    if let Ok(mut client) = socket.start_tls("a.test", unverified_client(None)).await {
        // TLS 1.3 refuses a client after its side of the handshake.
        let mut answer = [0; 5];
        client.write_all(b"hello").await.ok();
        assert!(client.read_exact(&mut answer).await.is_err(), "served without a verified peer");
    }
    assert_eq!(bytes.count(), 0);
    Ok(())
}

/// The kernel would distribute connections between both, whatever protects them.
#[tokio::test]
async fn two_listeners_do_not_share_an_address() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let mut front = Front::start(Ir::default());
    let address = ([127, 0, 0, 1], free_port()).into();
    let domain = Domain::new("example.org");
    let found = front.change(|ir| {
        domain.join(ir, "/far");
        route(ir, Some(GROUP), echo.address(), |_, _| {});
        listener(ir, |listener| (listener.address, listener.tls) = (address, domain.server(&["/near"])));
        other(ir, |other| other.tls = None);
    });
    let expect = [format!("address: cannot listen on {address}: another listener of this node has the address")];
    assert_eq!(found, expect);
    for _ in 0..20 {
        let refused = H1Client::connect(address).await?.get("/", "a.test", &[]).await?;
        assert_eq!(refused.status, 400, "plain HTTP on a listener with TLS");
    }
    // Nor that of a listener of the node's settings; datagrams are something else.
    let own = front.own();
    let found = front.change(|ir| other(ir, |other| (other.address, other.tls) = (own, None)));
    assert_eq!(found, [format!("address: cannot listen on {own}: another listener of this node has the address")]);
    let found = front.change(|ir| {
        other(ir, |other| (other.address, other.kind, other.tls) = (address, ListenerKind::Udp, None));
    });
    assert_eq!(found, [""; 0]);
    // In place of one that goes, an address is taken over at once.
    let found = front.change(|ir| {
        ir.listeners.remove(&OTHER);
        ir.listeners.remove(&LISTENER);
        listener(ir, |_| {});
        other(ir, |other| other.address = address);
        ir.listeners.remove(&LISTENER);
    });
    assert_eq!(found, [""; 0]);
    assert_eq!(front.address(OTHER), address);
    // What was on its way to the one that is gone is closed.
    let ask = async || {
        let mut client = H1Client::connect(address).await.ok()?;
        client.get("/", "a.test", &[]).await.ok()
    };
    let response = cardinal_testkit::until_some("a response of the new listener", ask).await?;
    assert_eq!(response.status, 200);
    Ok(())
}

/// Connections of a listener that gets other routes, or another address, end and are made anew.
#[tokio::test]
async fn connections_follow_their_listener() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let mut front = Front::start(Ir::default());
    front.change(|ir| {
        listener(ir, |_| {});
        route(ir, Some(GROUP), echo.address(), |_, _| {});
    });
    let address = front.address(LISTENER);
    let mut http1 = H1Client::connect(address).await?;
    let mut http2 = H2Client::connect(address).await?;
    assert_eq!(http1.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(http2.request("GET", "a.test", "/", &[], b"").await?.status, 200);
    front.change(|ir| {
        let group = ListenerGroup { origin: origin("groups", OTHER_GROUP), name: "outbound".into() };
        ir.listener_groups.insert(OTHER_GROUP, group);
        let mut moved = ir.routes.get(&ROUTE).unwrap().as_ref().clone();
        moved.group = Some(OTHER_GROUP);
        ir.routes.insert(ROUTE, moved);
        listener(ir, |listener| listener.group = Some(OTHER_GROUP));
    });
    assert_eq!(front.address(LISTENER), address, "the socket is the same");
    assert_eq!(http1.read_to_end().await?, b"", "idle connections end");
    ensure!(http2.request("GET", "a.test", "/", &[], b"").await.is_err(), "the client is told to connect again");
    let mut http1 = H1Client::connect(address).await?;
    assert_eq!(http1.get("/", "a.test", &[]).await?.status, 200);
    front.change(|ir| {
        listener(ir, |listener| {
            (listener.group, listener.address) = (Some(OTHER_GROUP), ([127, 0, 0, 1], free_port()).into());
        });
    });
    assert_eq!(http1.read_to_end().await?, b"");
    assert_eq!(H1Client::connect(front.address(LISTENER)).await?.get("/", "a.test", &[]).await?.status, 200);
    Ok(())
}
