//! Listeners that generations add and remove, their route tables, and identities on both sides of a connection.

mod by_delta;
mod changes;
pub(crate) mod front;

use anyhow::{Result, ensure};
use cardinal_ir::{
    Action, Certificate, Id, Ir, KeyPair, ListenerKind, ListenerTls, PeerMatch, TlsTermination, Traffic, TrustBundle,
    Wire,
};
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, ScriptedPeer, Step, StreamEcho, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::secrets::keep;

use crate::scene::eventually;
use front::{BUNDLE, Domain, Front, GROUP, IDENTITY, LISTENER, ROUTE, listener, origin, route};

const CERTIFICATE: Id = Id::from_u128(7);

/// TLS with a certificate of an authority.
pub(super) fn terminated(ir: &mut Ir, authority: &Authority) -> Option<ListenerTls> {
    let issued = authority.issue(&["a.test"]);
    let pair = KeyPair { chain: issued.cert_pem.as_str().into(), key: keep(&issued.key_pem) };
    let certificate = Certificate {
        origin: origin("certificates", CERTIFICATE),
        pairs: vec![pair],
        server_names: vec!["a.test".into()],
    };
    ir.certificates.insert(CERTIFICATE, certificate);
    let termination = TlsTermination { certificates: vec![CERTIFICATE], ..TlsTermination::default() };
    Some(ListenerTls::Certificates(termination))
}

#[tokio::test]
async fn a_listener_comes_changes_its_tls_and_goes_and_others_notice_nothing() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let mut front = Front::start(Ir::default());
    // An unrelated connection, which must survive all changes.
    front.change(|ir| route(ir, None, echo.address(), |_, _| {}));
    let mut elsewhere = H1Client::connect(front.own()).await?;
    assert_eq!(elsewhere.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(front.change(|ir| listener(ir, |_| {})), [""; 0]);
    let address = front.address(LISTENER);
    let mut first = H1Client::connect(address).await?;
    // The routes of the default group are not its own.
    assert_eq!(first.get("/", "a.test", &[]).await?.status, 404);
    front.change(|ir| {
        let mut moved = ir.routes.get(&ROUTE).unwrap().as_ref().clone();
        moved.group = Some(GROUP);
        ir.routes.insert(ROUTE, moved);
    });
    assert_eq!(first.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(elsewhere.get("/", "a.test", &[]).await?.status, 404, "the route has moved");
    // With TLS, the socket stays open, and clear-text connections end.
    let authority = Authority::new("root");
    front.change(|ir| {
        let tls = terminated(ir, &authority);
        listener(ir, |listener| listener.tls = tls);
    });
    assert_eq!(front.address(LISTENER), address);
    assert_eq!(first.read_to_end().await?, b"");
    let mut second = H2Client::connect_tls(address, "a.test", authority.client(None, &["h2"])).await?;
    assert_eq!(second.request("GET", "a.test", "/", &[], b"").await?.status, 200);
    let mut third = H1Client::connect_tls(address, "a.test", authority.client(None, &[])).await?;
    assert_eq!(third.get("/", "a.test", &[]).await?.status, 200);
    // Without the identity, connecting fails, and existing connections end.
    front.change(|ir| drop(ir.listeners.remove(&LISTENER)));
    assert_eq!(third.read_to_end().await?, b"");
    assert!(second.request("GET", "a.test", "/", &[], b"").await.is_err());
    assert!(eventually(|| std::net::TcpStream::connect(address).is_err()).await);
    assert_eq!(elsewhere.get("/", "a.test", &[]).await?.status, 404);
    let failures: u64 = front.engine.totals().failures.iter().map(|(_, count)| count).sum();
    assert_eq!(failures, 3, "requests without a route, and no more");
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_ends_when_its_listener_is_gone() -> Result<()> {
    let slow = ScriptedPeer::start(vec![vec![
        Step::until("\r\n\r\n"),
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"),
        Step::until("go"),
        Step::send("cd"),
    ]])
    .await;
    let mut front = Front::start(Ir::default());
    front.change(|ir| {
        listener(ir, |_| {});
        route(ir, Some(GROUP), slow.address(), |_, _| {});
    });
    let mut client = H1Client::connect(front.address(LISTENER)).await?;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let (status, _) = client.head().await?;
    assert_eq!(status, 200);
    front.change(|ir| drop(ir.listeners.remove(&LISTENER)));
    client.send("2\r\ngo\r\n0\r\n\r\n").await?;
    let rest = client.read_to_end().await?;
    ensure!(rest.ends_with(b"cd"), "{}", String::from_utf8_lossy(&rest));
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_of_the_record_and_tried_again() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    // Without SO_REUSEPORT, no other socket can listen there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let mut front = Front::start(Ir::default());
    let found = front.change(|ir| {
        route(ir, None, echo.address(), |_, _| {});
        listener(ir, |listener| listener.address = address);
    });
    assert_eq!(found.len(), 1, "{found:?}");
    ensure!(found[0].starts_with(&format!("address: cannot listen on {address}")), "{found:?}");
    // The rest of the generation is served.
    assert_eq!(H1Client::connect(front.own()).await?.get("/", "a.test", &[]).await?.status, 200);
    drop(taken);
    assert_eq!(front.change(|_| {}), [""; 0]);
    assert_eq!(front.address(LISTENER), address);
    Ok(())
}

#[tokio::test]
async fn listeners_that_cannot_be_what_they_are_meant_to_be_are_left_out() {
    let mut front = Front::start(Ir::default());
    let found = front.change(|ir| {
        listener(ir, |listener| listener.tls = Some(ListenerTls::Certificates(TlsTermination::default())));
    });
    assert_eq!(found, ["tls.certificates: a listener with TLS needs a certificate"]);
    let found = front.change(|ir| {
        listener(ir, |listener| {
            listener.kind = ListenerKind::Udp;
            listener.tls = Some(ListenerTls::Node);
        });
    });
    assert_eq!(found, ["tls: datagrams have no TLS"]);
    let domain = Domain::new("example.org");
    let found = front.change(|ir| {
        domain.join(ir, "/b");
        let mut tls = domain.mutual(&[]);
        tls.peers = vec![PeerMatch::Exact("https://example.org".into())];
        listener(ir, |listener| listener.tls = Some(ListenerTls::Identity(tls)));
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("tls.peers: https://example.org: "), "{found:?}");
    assert_eq!(front.engine.addresses().len(), 1, "only the node's own");
}

/// Two nodes of a mesh: requests are sent in clear text to the first, by mutual TLS to the second, and on to an echo
/// server.
struct Mesh {
    domain: Domain,
    near: Front,
    far: Front,
}

impl Mesh {
    async fn start(echo: &EchoServer) -> Result<Self> {
        let domain = Domain::new("example.org");
        let mut far = Front::start(Ir::default());
        let found = far.change(|ir| {
            domain.join(ir, "/far");
            listener(ir, |listener| listener.tls = domain.server(&["/near"]));
            route(ir, Some(GROUP), echo.address(), |_, _| {});
        });
        assert_eq!(found, [""; 0]);
        let mut near = Front::start(Ir::default());
        let to = far.address(LISTENER);
        let found = near.change(|ir| {
            domain.join(ir, "/near");
            route(ir, None, to, |backend, _| backend.tls = domain.client(&["/far"]));
        });
        assert_eq!(found, [""; 0]);
        Ok(Self { domain, near, far })
    }

    async fn status(&self) -> Result<u16> {
        Ok(H1Client::connect(self.near.own()).await?.get("/", "a.test", &[]).await?.status)
    }
}

#[tokio::test]
async fn nodes_prove_who_they_are_and_lose_what_is_withdrawn() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let Mesh { domain, near, mut far } = Mesh::start(&echo).await?;
    let mut client = H1Client::connect(near.own()).await?;
    for _ in 0..3 {
        let response = client.get("/", "a.test", &[]).await?;
        assert_eq!((response.status, &response.json()["target"]), (200, &"/".into()));
    }
    let handshakes = far.engine.totals().accepted;
    // New certificates of both nodes and an additional root: plan and connection are unchanged.
    let generations = (near.engine.plan().unwrap().generation, far.engine.plan().unwrap().generation);
    near.engine.identities().set_identity(IDENTITY, &domain.svid("/near"))?;
    far.engine.identities().set_identity(IDENTITY, &domain.svid("/far"))?;
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(far.engine.totals().accepted, handshakes, "the pooled connection is used");
    assert_eq!((near.engine.plan().unwrap().generation, far.engine.plan().unwrap().generation), generations);
    // A peer that is no longer allowed loses its connections, and cannot connect again.
    far.change(|ir| listener(ir, |listener| listener.tls = domain.server(&["/other"])));
    assert!(eventually(|| far.engine.totals().active == 0).await, "{}", far.engine.totals().active);
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 502);
    // When it is allowed again, it can connect.
    far.change(|ir| listener(ir, |listener| listener.tls = domain.server(&["/near"])));
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    // Peers of a trust domain without a bundle are rejected.
    far.change(|ir| drop(ir.trust_bundles.remove(&BUNDLE)));
    assert!(eventually(|| far.engine.totals().active == 0).await);
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 502);
    Ok(())
}

#[tokio::test]
async fn the_live_handle_withdraws_identities_without_a_generation() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let mesh = Mesh::start(&echo).await?;
    assert_eq!(mesh.status().await?, 200);
    mesh.far.engine.identities().update::<std::convert::Infallible>(|update| {
        update.remove_bundle(&cardinal_pki::TrustDomain::parse("example.org").unwrap());
        Ok(())
    })?;
    mesh.far.engine.close_unauthorized();
    assert!(eventually(|| mesh.far.engine.totals().active == 0).await);
    assert_eq!(mesh.status().await?, 502);
    mesh.far.engine.identities().set_bundle(mesh.domain.ca.bundle()?);
    assert_eq!(mesh.status().await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_client_without_an_identity_is_refused_unless_clear_text_is_allowed() -> Result<()> {
    let echo = EchoServer::start("echo").await;
    let Mesh { domain, near, mut far } = Mesh::start(&echo).await?;
    let address = far.address(LISTENER);
    let refused = H1Client::connect(address).await?.get("/", "a.test", &[]).await?;
    assert_eq!(refused.status, 400, "plain HTTP on a listener with TLS");
    let authority = Authority::new("root");
    let stranger = authority.issue(&["a.test"]);
    let config = cardinal_testkit::unverified_client(Some(&stranger));
    // With TLS 1.3, a client is rejected after it has finished its handshake.
    if let Ok(mut client) = H1Client::connect_tls(address, "a.test", config).await {
        assert!(client.get("/", "a.test", &[]).await.is_err());
    }
    assert_eq!(echo.requests(), 0);
    far.change(|ir| {
        let mut tls = domain.mutual(&["/near"]);
        tls.clear_text = true;
        listener(ir, |listener| listener.tls = Some(ListenerTls::Identity(tls)));
    });
    let mut clear = H1Client::connect(address).await?;
    assert_eq!(clear.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(H1Client::connect(near.own()).await?.get("/", "a.test", &[]).await?.status, 200, "TLS is served, too");
    // In strict mode again: connections without an identity end.
    far.change(|ir| listener(ir, |listener| listener.tls = domain.server(&["/near"])));
    assert_eq!(clear.read_to_end().await?, b"");
    Ok(())
}

#[tokio::test]
async fn what_is_spoken_is_told_by_the_first_bytes() -> Result<()> {
    let (echo, bytes) = (EchoServer::start("echo").await, StreamEcho::tcp().await);
    let mut front = Front::start(Ir::default());
    front.change(|ir| {
        listener(ir, |listener| listener.kind = ListenerKind::Detect);
        route(ir, Some(GROUP), echo.address(), |_, _| {});
    });
    let address = front.address(LISTENER);
    // Without a stream route, connections other than HTTP are closed, including silent ones.
    let mut silent = TcpStream::connect(address).await?;
    assert_eq!(silent.read(&mut [0; 8]).await?, 0);
    let mut http1 = H1Client::connect(address).await?;
    assert_eq!(http1.get("/", "a.test", &[]).await?.status, 200);
    let mut http2 = H2Client::connect(address).await?;
    assert_eq!(http2.request("GET", "a.test", "/", &[], b"").await?.status, 200);
    // A stream route serves byte streams, and never HTTP.
    let to = bytes.address();
    front.change(|ir| {
        let (backend, mut stream) = {
            let mut other = Ir::default();
            route(&mut other, Some(GROUP), to, |_, route| route.traffic = Traffic::Stream);
            let found =
                (other.backends.iter().next().unwrap().1.clone(), other.routes.iter().next().unwrap().1.clone());
            (found.0.as_ref().clone(), found.1.as_ref().clone())
        };
        let (backend_id, route_id) = (Id::from_u128(20), Id::from_u128(21));
        stream.action = Action::Forward(backend_id);
        stream.origin = origin("routes", route_id);
        ir.backends.insert(backend_id, backend);
        ir.routes.insert(route_id, stream);
    });
    let mut raw = TcpStream::connect(address).await?;
    raw.write_all(b"\x00\x01 no HTTP").await?;
    let mut answer = vec![0; 10];
    raw.read_exact(&mut answer).await?;
    assert_eq!(answer, b"\x00\x01 no HTTP"[..10]);
    assert_eq!(http1.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!((echo.requests(), bytes.count()), (3, 1));
    Ok(())
}

#[tokio::test]
async fn streams_and_datagrams_of_a_group_go_by_its_routes() -> Result<()> {
    let (tcp, udp) = (StreamEcho::tcp().await, StreamEcho::udp().await);
    let mut front = Front::start(Ir::default());
    front.change(|ir| {
        listener(ir, |listener| listener.kind = ListenerKind::Stream);
        route(ir, Some(GROUP), tcp.address(), |_, route| route.traffic = Traffic::Stream);
    });
    let mut client = TcpStream::connect(front.address(LISTENER)).await?;
    client.write_all(b"over TCP").await?;
    let mut answer = [0; 8];
    client.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"over TCP");
    // Another kind of socket at the same address.
    front.change(|ir| {
        listener(ir, |listener| listener.kind = ListenerKind::Udp);
        route(ir, Some(GROUP), udp.address(), |backend, route| {
            backend.l4 = cardinal_ir::L4::Udp;
            route.traffic = Traffic::Stream;
            route.matches = cardinal_ir::Criteria { wires: vec![Wire::Udp], ..Default::default() }.into();
        });
    });
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(front.address(LISTENER)).await?;
    socket.send(b"datagram").await?;
    let count = socket.recv(&mut answer).await?;
    assert_eq!(&answer[..count], b"datagram");
    Ok(())
}

#[tokio::test]
async fn identities_that_cannot_be_used_are_told_and_nothing_is_served_by_them() -> Result<()> {
    let domain = Domain::new("example.org");
    let mut front = Front::start(Ir::default());
    let found = front.change(|ir| {
        domain.join(ir, "/a");
        let mut wrong = ir.identities.get(&IDENTITY).unwrap().as_ref().clone();
        wrong.id = domain.id("/b").into();
        ir.identities.insert(IDENTITY, wrong);
        let bundle = TrustBundle {
            origin: origin("bundles", Id::from_u128(30)),
            certificate: "no PEM".into(),
            trust_domain: Some("other.org".into()),
        };
        ir.trust_bundles.insert(Id::from_u128(30), bundle);
    });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|text| text.contains("the certificate is of spiffe://example.org/a")), "{found:?}");
    assert!(found.iter().any(|text| text.starts_with("certificate: ")), "{found:?}");
    assert!(front.engine.identities().identities().is_empty());
    // Two bundles of one domain: the record with the lower id is used, in any order.
    let found = front.change(|ir| {
        let mut second = ir.trust_bundles.get(&BUNDLE).unwrap().as_ref().clone();
        second.origin = origin("bundles", Id::from_u128(30));
        ir.trust_bundles.insert(Id::from_u128(30), second);
        domain.join(ir, "/a");
    });
    assert_eq!(found, ["trust_domain: trust domain example.org has another trust bundle"]);
    assert_eq!(front.engine.identities().bundles().len(), 1);
    let port = free_port();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    Ok(())
}
