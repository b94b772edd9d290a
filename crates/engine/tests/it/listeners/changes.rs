//! Changes of listeners must not bypass their access control, nor lose connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use cardinal_base::{Clock as _, ManualClock};
use cardinal_engine::Options;
use cardinal_ir::{Id, Ir, Listener, ListenerGroup, ListenerKind, Traffic};
use cardinal_testkit::{
    Authority, EchoServer, H1Client, H2Client, Socket, StreamEcho, free_port, unverified_client, while_time_passes,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::front::{Domain, Front, GROUP, LISTENER, ROUTE, listener, origin, route};
use super::terminated;
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

/// A connection that has not started its handshake when its listener is removed is not served with weaker requirements.
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
        // With TLS 1.3, a client is rejected after it has finished its handshake.
        let mut answer = [0; 5];
        client.write_all(b"hello").await.ok();
        assert!(client.read_exact(&mut answer).await.is_err(), "served without a verified peer");
    }
    assert_eq!(bytes.count(), 0);
    Ok(())
}

/// The kernel would distribute connections between both listeners, regardless of their access control.
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
    // The address of a listener of the node's settings cannot be used either; datagrams are independent.
    let own = front.own();
    let found = front.change(|ir| other(ir, |other| (other.address, other.tls) = (own, None)));
    assert_eq!(found, [format!("address: cannot listen on {own}: another listener of this node has the address")]);
    let found = front.change(|ir| {
        other(ir, |other| (other.address, other.kind, other.tls) = (address, ListenerKind::Udp, None));
    });
    assert_eq!(found, [""; 0]);
    // An address is reused immediately if its listener is removed in the same change.
    let found = front.change(|ir| {
        ir.listeners.remove(&OTHER);
        ir.listeners.remove(&LISTENER);
        listener(ir, |_| {});
        other(ir, |other| other.address = address);
        ir.listeners.remove(&LISTENER);
    });
    assert_eq!(found, [""; 0]);
    assert_eq!(front.address(OTHER), address);
    // Connections of the removed listener are closed.
    let ask = async || {
        let mut client = H1Client::connect(address).await.ok()?;
        client.get("/", "a.test", &[]).await.ok()
    };
    let response = cardinal_testkit::until_some("a response of the new listener", ask).await?;
    assert_eq!(response.status, 200);
    Ok(())
}

/// Connections of a listener that gets other routes, or another address, are closed and opened again.
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

/// A byte stream has no requests after which the connection could end.
#[tokio::test]
async fn byte_streams_in_clear_text_end_after_the_drain_time_when_their_listener_gets_tls() -> Result<()> {
    let bytes = StreamEcho::tcp().await;
    let clock = Arc::new(ManualClock::default());
    let mut front = Front::start_with(Ir::default(), Options { clock: Some(clock.clone()), ..Options::default() });
    front.change(|ir| {
        listener(ir, |listener| listener.kind = ListenerKind::Stream);
        route(ir, Some(GROUP), bytes.address(), |backend, route| {
            // The idle timeout does not end them.
            (backend.timeouts.read_ms, backend.timeouts.write_ms) = (36_000_000, 36_000_000);
            route.traffic = Traffic::Stream;
        });
    });
    let mut client = Socket::connect(front.address(LISTENER)).await?;
    let echoes = async |client: &mut Socket| {
        client.write_all(b"hello").await?;
        let mut answer = [0; 5];
        client.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        anyhow::Ok(())
    };
    echoes(&mut client).await?;
    let authority = Authority::new("root");
    let found = front.change(|ir| {
        let tls = terminated(ir, &authority);
        listener(ir, |listener| (listener.kind, listener.tls) = (ListenerKind::Stream, tls));
    });
    assert_eq!(found, [""; 0]);
    let mut over_tls = Socket::connect(front.address(LISTENER)).await?;
    over_tls = over_tls.start_tls("a.test", authority.client(None, &[])).await?;
    echoes(&mut over_tls).await?;
    echoes(&mut client).await?;
    let drain_ms = front.engine.plan().unwrap().node().limits.drain_timeout_ms;
    let step = Duration::from_millis(drain_ms / 20);
    let mut rest = [0; 1];
    let end = while_time_passes("the end", &clock, step, client.read(&mut rest)).await?;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert!(clock.tick().millis() >= drain_ms, "{} ms", clock.tick().millis());
    echoes(&mut over_tls).await?;
    Ok(())
}

/// The inodes of the sockets that listen on a port.
#[cfg(target_os = "linux")]
fn inodes(port: u16) -> std::collections::BTreeSet<String> {
    const LISTENS: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[1].ends_with(&format!(":{port:04X}")) && row[3] == LISTENS);
    own.map(|row| row[9].to_owned()).collect()
}

/// Connections in the queues of the sockets are served by the listener that takes over.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_listener_takes_over_the_sockets_of_one_that_goes() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let mut front = Front::start(Ir::default());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    front.change(|ir| {
        listener(ir, |listener| listener.address = address);
        route(ir, Some(GROUP), echo.address(), |_, _| {});
    });
    let before = inodes(address.port());
    assert_eq!(before.len(), 2, "one for each worker");
    for (gone, comes) in [(LISTENER, OTHER), (OTHER, LISTENER), (LISTENER, OTHER)] {
        let found = front.change(|ir| {
            listener(ir, |listener| listener.address = address);
            other(ir, |_| {});
            ir.listeners.remove(&gone);
        });
        assert_eq!(found, [""; 0]);
        assert_eq!(front.address(comes), address);
        assert_eq!(inodes(address.port()), before, "the sockets stay");
        // Each accepted connection belongs to the current listener.
        for _ in 0..20 {
            assert_eq!(H1Client::connect(address).await?.get("/", "a.test", &[]).await?.status, 200);
        }
    }
    Ok(())
}
