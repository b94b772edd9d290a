//! Policies for connections: TCP, TLS and UDP sessions.

use anyhow::Result;
use cardinal_ir::policy::{
    AccessAction, AccessRule, Authorization, ClientMatch, IdentityMatch, Limiter, RateLimit, TokenBucket,
};
use cardinal_ir::{ListenerKind, PolicySpec, Wire};
use cardinal_testkit::{Authority, Socket, within};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};

use super::recorder::records;
use super::setup::{Running, Setup, tcp_server, udp_server};

fn rule(action: AccessAction, client: ClientMatch) -> AccessRule {
    AccessRule { action, clients: vec![client], ..AccessRule::default() }
}

fn network(text: &str) -> ClientMatch {
    ClientMatch::Network(text.parse().unwrap())
}

fn rules(rules: Vec<AccessRule>) -> PolicySpec {
    PolicySpec::Authorization(Authorization { rules, ..Authorization::default() })
}

/// Whether a session is admitted: the server sends its name first.
async fn is_admitted(running: &Running) -> Result<bool> {
    let mut tcp = TcpStream::connect(running.address()).await?;
    let mut name = [0; 4];
    Ok(within("a session", tcp.read_exact(&mut name)).await?.is_ok())
}

async fn tcp_with(policy: PolicySpec) -> (super::setup::Served, Running) {
    let server = tcp_server("one", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let backend = setup.backend(server.address, |_| {});
    setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.policy(policy);
    (server, setup.start())
}

#[tokio::test]
async fn tcp_sessions_are_authorized() -> Result<()> {
    let identity = ClientMatch::Identity(IdentityMatch::Prefix("spiffe://".into()));
    for (policy, expect) in [
        (rules(vec![rule(AccessAction::Allow, network("127.0.0.0/8"))]), true),
        (rules(vec![rule(AccessAction::Allow, network("10.0.0.0/8"))]), false),
        (rules(vec![rule(AccessAction::Deny, network("127.0.0.1/32")), AccessRule::default()]), false),
        // The client has not proved an identity here.
        (rules(vec![rule(AccessAction::Allow, identity)]), false),
        (rules(Vec::new()), false),
        (PolicySpec::Authorization(Authorization { shadow: true, ..Authorization::default() }), true),
    ] {
        let said = format!("{policy:?}");
        let (_server, running) = tcp_with(policy).await;
        assert_eq!(is_admitted(&running).await?, expect, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn tcp_sessions_are_limited() -> Result<()> {
    let limiter = Limiter::Bucket(TokenBucket { tokens: 2, interval_ms: 3_600_000 });
    let (_server, running) = tcp_with(PolicySpec::RateLimit(RateLimit { limiter, ..RateLimit::default() })).await;
    for expect in [true, true, false, false] {
        assert_eq!(is_admitted(&running).await?, expect);
    }
    Ok(())
}

/// For TLS terminated by the gateway and by the upstream.
#[tokio::test]
async fn tls_sessions_are_authorized_by_their_server_names() -> Result<()> {
    let authority = Authority::new("tests");
    let issued = authority.issue(&["shop.test", "other.test"]);
    for wire in [Wire::Tls, Wire::TlsPassthrough] {
        let tls = (wire == Wire::TlsPassthrough).then(|| authority.server(&issued, &[], false));
        let server = tcp_server("one", tls).await;
        let mut setup = Setup::default();
        setup.listener(ListenerKind::Stream, true);
        setup.certificate(&issued, &["shop.test", "other.test"]);
        let backend = setup.backend(server.address, |_| {});
        setup.route(Some(backend), &[wire], &[]);
        let named =
            |name: &str, action| AccessRule { action, server_names: vec![name.into()], ..AccessRule::default() };
        setup.policy(rules(vec![named("other.test", AccessAction::Deny), named("shop.test", AccessAction::Allow)]));
        let running = setup.start();
        for (name, expect) in [("shop.test", true), ("other.test", false)] {
            let socket = Socket::connect(running.address()).await?;
            let mut buffer = [0; 4];
            let read = async {
                let mut tls = socket.start_tls(name, authority.client(None, &[])).await.ok()?;
                tls.read_exact(&mut buffer).await.ok()
            };
            assert_eq!(within("a session", read).await?.is_some(), expect, "{name} {wire:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn udp_sessions_are_authorized() -> Result<()> {
    for (name, text, expect) in [("udp-allowed", "127.0.0.0/8", true), ("udp-denied", "10.0.0.0/8", false)] {
        let server = udp_server("s").await;
        let mut setup = Setup::default();
        setup.listener(ListenerKind::Udp, false);
        setup.node.limits.udp_idle_timeout_ms = 100;
        let backend = setup.backend(server.address, |_| {});
        setup.route(Some(backend), &[Wire::Udp], &[]);
        setup.policy(rules(vec![rule(AccessAction::Allow, network(text))]));
        setup.record(name, true);
        let running = setup.start();
        let client = UdpSocket::bind("127.0.0.1:0").await?;
        client.connect(running.address()).await?;
        client.send(b"x").await?;
        if expect {
            let mut buffer = [0; 64];
            let count = within("an answer", client.recv(&mut buffer)).await??;
            assert!(buffer[..count].starts_with(b"s "));
        }
        // The session has ended, and an endpoint was contacted only if the client is allowed.
        let record = &records(name, 1).await[0];
        assert_eq!((record.client, record.tries.1), (client.local_addr()?, usize::from(expect)), "{name}");
    }
    Ok(())
}
