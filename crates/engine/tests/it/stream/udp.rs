use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use cardinal_http::FailureKind;
use cardinal_ir::{ListenerKind, Wire};
use cardinal_testkit::{free_port, within};
use tokio::net::UdpSocket;

use super::recorder::records;
use super::setup::{Running, Setup, udp_server};

/// A client with its own address.
struct Client(UdpSocket);

impl Client {
    async fn connect(running: &Running) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(running.address()).await?;
        Ok(Self(socket))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn ask(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.0.send(data).await?;
        let mut buffer = vec![0; 65_536];
        let count = within("an answer", self.0.recv(&mut buffer)).await??;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Sends until a response arrives.
    async fn insist(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        within("an answer", async {
            loop {
                self.0.send(data).await?;
                if let Ok(count) = tokio::time::timeout(Duration::from_millis(20), self.0.recv(&mut buffer)).await {
                    buffer.truncate(count?);
                    return Ok(buffer);
                }
            }
        })
        .await?
    }
}

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

#[tokio::test]
async fn a_client_keeps_its_session() -> Result<()> {
    let (one, two) = (udp_server("s").await, udp_server("s").await);
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Udp, false);
    let target = setup.group(&[one.address, two.address]);
    let backend = setup.backend(one.address, |backend| backend.target = target);
    setup.route(Some(backend), &[Wire::Udp], &[]);
    let running = setup.start();
    // Clients stay open: the system could assign the port of a closed one to the next one, which would then use its
    // session.
    let (mut ports, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let client = Client::connect(&running).await?;
        let first = text(&client.ask(b"hello").await?);
        let prefix = first.strip_suffix("hello").unwrap().to_owned();
        // The endpoint sees the same sender for each datagram, including an empty one.
        assert_eq!(text(&client.ask(b"").await?), prefix);
        assert_eq!(text(&client.ask(b"again").await?), format!("{prefix}again"));
        assert!(!ports.contains(&prefix), "sessions share nothing");
        ports.push(prefix);
        clients.push(client);
    }
    Ok(())
}

#[tokio::test]
async fn large_datagrams_pass_uncut() -> Result<()> {
    let server = udp_server("s").await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Udp, false);
    let backend = setup.backend(server.address, |_| {});
    setup.route(Some(backend), &[Wire::Udp], &[]);
    let running = setup.start();
    let client = Client::connect(&running).await?;
    let data: Vec<u8> = (0..65_507_u32).map(|n| (n % 251) as u8).collect();
    let answer = client.ask(&data).await?;
    let at = answer.len() - answer.iter().rev().take_while(|b| **b != b' ').count();
    assert_eq!(answer.len(), 65_507);
    let content = answer.splitn(3, |b| *b == b' ').nth(2).unwrap();
    assert!(data.starts_with(content) && content.len() > 65_000, "{at}");
    Ok(())
}

#[tokio::test]
async fn a_silent_session_ends_and_is_logged() -> Result<()> {
    let server = udp_server("s").await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Udp, false);
    setup.node.limits.udp_idle_timeout_ms = 100;
    let backend = setup.backend(server.address, |_| {});
    let route = setup.route(Some(backend), &[Wire::Udp], &[]);
    setup.record("udp-idle", true);
    let running = setup.start();
    let client = Client::connect(&running).await?;
    let first = client.ask(b"12345").await?;
    let record = records("udp-idle", 1).await[0].clone();
    let answered = first.len() as u64;
    assert_eq!(record.bytes, [5, answered, 5, answered]);
    assert_eq!((record.wire, record.client), (Wire::Udp, client.address()));
    assert_eq!((record.route, record.failure, record.tries), (Some(route), None, (0, 1)));
    let second = client.ask(b"12345").await?;
    assert_ne!(first, second, "another session, from another port");
    Ok(())
}

#[tokio::test]
async fn a_full_table_takes_newcomers_when_somebody_has_left() -> Result<()> {
    let server = udp_server("s").await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Udp, false);
    // One for each of the two workers.
    setup.node.limits.udp_sessions_max = 2;
    setup.node.limits.udp_idle_timeout_ms = 200;
    let backend = setup.backend(server.address, |_| {});
    setup.route(Some(backend), &[Wire::Udp], &[]);
    let running = setup.start();
    let clients = futures_util::future::try_join_all((0..8).map(|_| Client::connect(&running))).await?;
    for client in &clients {
        client.0.send(b"x").await?;
    }
    // All clients are served in the end, at most two at a time.
    let answers = futures_util::future::try_join_all(clients.iter().map(|client| client.insist(b"x"))).await?;
    assert_eq!(answers.len(), 8);
    let overloaded =
        running.engine.totals().failures.iter().find(|(kind, _)| *kind == FailureKind::Overloaded).unwrap().1;
    assert!(overloaded > 0);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_not_there_ends_the_session() -> Result<()> {
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Udp, false);
    let backend = setup.backend(([127, 0, 0, 1], free_port()).into(), |_| {});
    setup.route(Some(backend), &[Wire::Udp], &[]);
    setup.record("udp-nobody", true);
    let running = setup.start();
    let client = Client::connect(&running).await?;
    for number in 1..=3 {
        client.0.send(b"hello").await?;
        let record = &records("udp-nobody", number).await[number - 1];
        assert_eq!((record.failure, record.tries), (Some(FailureKind::UpstreamConnect), (1, 1)));
    }
    Ok(())
}

#[tokio::test]
async fn datagrams_that_lead_nowhere_are_dropped_and_logged() -> Result<()> {
    let server = udp_server("s").await;
    for (name, admit, wire, expect) in
        [("udp-no-route", true, Wire::Tcp, Some(FailureKind::NoRoute)), ("udp-filter", false, Wire::Udp, None)]
    {
        let mut setup = Setup::default();
        setup.listener(ListenerKind::Udp, false);
        let backend = setup.backend(server.address, |_| {});
        setup.route(Some(backend), &[wire], &[]);
        setup.record(name, admit);
        let running = setup.start();
        let client = Client::connect(&running).await?;
        client.0.send(b"hello").await?;
        let record = &records(name, 1).await[0];
        assert_eq!((record.failure, record.tries, record.bytes[1]), (expect, (0, 0), 0), "{name}");
        assert_eq!(running.engine.totals().active, 0, "{name}");
    }
    Ok(())
}
