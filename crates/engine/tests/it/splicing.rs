//! Long bodies, which are spliced from socket to socket: the result must be the same as without splicing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use cardinal_base::task;
use cardinal_testkit::{Authority, H1Client, ScriptedPeer, Step, World};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::plugins;
use crate::scene::{certificate, eventually, file, one, service_of};

const LONG: usize = 12 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Echoes complete bodies, on keep-alive connections.
struct Mirror {
    url: String,
    connections: Arc<AtomicU64>,
}

impl Mirror {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        drop(task::spawn("mirror", async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                drop(task::spawn("mirrored", async move { drop(mirror(tcp).await) }));
            }
        }));
        Ok(Self { url, connections })
    }
}

async fn mirror(mut tcp: TcpStream) -> Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        let text = String::from_utf8(head)?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(Ok(0), str::parse)?];
        tcp.read_exact(&mut body).await?;
        tcp.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).await?;
        tcp.write_all(&body).await?;
    }
}

fn world(url: &str) -> Result<World> {
    let settings = [("nginx_http_client_max_body_size", "0")];
    World::start(plugins(), &one(url, json!({ "retries": 0 }), json!({})), &settings)
}

async fn mirrored(client: &mut H1Client, size: usize) -> Result<()> {
    let body = pattern(size);
    let response = client.request("POST", "/", "a", &[], &body).await?;
    ensure!(response.status == 200, "{}", response.status);
    ensure!(response.body == body, "{} of {size} bytes came back as they were", response.body.len());
    Ok(())
}

#[tokio::test]
async fn long_bodies_come_as_they_were_and_connections_stay() -> Result<()> {
    let upstream = Mirror::start().await?;
    let world = world(&upstream.url)?;
    let mut client = H1Client::connect(world.http()).await?;
    for size in [LONG, 10, 1 << 20, (1 << 20) + 1, 3 << 20, 100_000, LONG] {
        mirrored(&mut client, size).await?;
    }
    assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    Ok(())
}

#[tokio::test]
async fn many_at_once_do_not_mix() -> Result<()> {
    let upstream = Mirror::start().await?;
    let world = world(&upstream.url)?;
    let mut tasks = Vec::new();
    for at in 0..12 {
        let mut client = H1Client::connect(world.http()).await?;
        tasks.push(async move {
            for round in 0..3 {
                mirrored(&mut client, (2 << 20) + at * 1_000 + round).await?;
            }
            anyhow::Ok(())
        });
    }
    futures_util::future::try_join_all(tasks).await.map(drop)
}

#[tokio::test]
async fn tls_on_one_side_changes_nothing() -> Result<()> {
    let authority = Authority::new("root");
    let upstream = Mirror::start().await?;
    let text = file(json!({
        "services": [service_of(&upstream.url, json!({}), json!({}))],
        "certificates": [certificate(&authority.issue(&["a"]), &["a"])],
    }));
    let world = World::start(plugins(), &text, &[("nginx_http_client_max_body_size", "0")])?;
    let mut client = H1Client::connect_tls(world.https(), "a", authority.client(None, &["http/1.1"])).await?;
    mirrored(&mut client, LONG).await?;
    // The upstream connection was used with TLS clients before, and is used with them again.
    let mut plain = H1Client::connect(world.http()).await?;
    mirrored(&mut plain, LONG).await?;
    mirrored(&mut client, LONG).await
}

fn answering(length: u64, sent: u64, end: Vec<Step>) -> Vec<Step> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let mut play = vec![Step::until("\r\n\r\n"), Step::send(head), Step::Flood(vec![b'x'; 64 * 1024], sent)];
    play.extend(end);
    play
}

#[tokio::test]
async fn an_answer_that_ends_early_does_not_look_complete() -> Result<()> {
    for end in [vec![], vec![Step::Reset]] {
        let peer = ScriptedPeer::start(vec![answering(8 << 20, 4 << 20, end)]).await;
        let world = world(&format!("http://{}", peer.address()))?;
        let mut client = H1Client::connect(world.http()).await?;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let outcome = client.response_counted().await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_longer_than_announced_is_cut_and_its_connection_closed() -> Result<()> {
    let peer = ScriptedPeer::start(vec![answering(4 << 20, 6 << 20, vec![Step::Drain])]).await;
    let world = world(&format!("http://{}", peer.address()))?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        assert_eq!(client.response_counted().await?, (200, 4 << 20));
    }
    assert_eq!(peer.connections(), 3);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstreams_work() -> Result<()> {
    const ALL: u64 = 4 << 30;
    let peer = ScriptedPeer::start(vec![answering(ALL, ALL, vec![])]).await;
    let world = world(&format!("http://{}", peer.address()))?;
    for reset in [false, true] {
        let mut client = H1Client::connect(world.http()).await?;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let mut read = 0;
        while read < 6 << 20 {
            read += client.read_some().await?.len();
        }
        if reset {
            client.reset()?
        } else {
            drop(client)
        }
        // It stops when the connection is closed.
        assert!(cardinal_testkit::settled("the upstream to stop", || peer.flooded()).await? < ALL);
    }
    // Both scripts ended because the other side disconnected, not because they were complete.
    assert!(eventually(|| peer.connections() == 2).await);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_breaks_off_a_request_is_an_error() -> Result<()> {
    let some = pattern(LONG);
    let play = vec![Step::until("\r\n\r\n"), Step::Expect(some[..6 << 20].to_vec()), Step::Reset];
    let peer = ScriptedPeer::start(vec![play]).await;
    let world = world(&format!("http://{}", peer.address()))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n")).await?;
    client.send(&some).await.ok();
    assert_eq!(client.head().await?.0, 502);
    assert_eq!((peer.connections(), peer.errors()), (1, vec![]));
    Ok(())
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_comes_through() -> Result<()> {
    let some = pattern(LONG);
    let early = "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno";
    let play = vec![Step::until("\r\n\r\n"), Step::Expect(some[..3 << 20].to_vec()), Step::send(early), Step::Drain];
    let peer = ScriptedPeer::start(vec![play]).await;
    let world = world(&format!("http://{}", peer.address()))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n")).await?;
    client.send(&some[..5 << 20]).await?;
    let response = client.response().await?;
    assert_eq!((response.status, response.text()), (409, "no".into()));
    Ok(())
}
