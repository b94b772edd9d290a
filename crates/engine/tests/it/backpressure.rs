//! Backpressure: while a peer does not read, the other side is not read either, so memory does not grow with the size
//! of a body.

use std::time::Duration;

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, World, settled};
use serde_json::json;
use tokio::net::TcpListener;

use crate::plugins;
use crate::scene::one;

/// Number of bytes offered by an upstream.
const BODY: u64 = 512 << 20;
/// Maximum amount buffered by sockets and flow control windows; far below the amount offered.
const HELD_MAX: u64 = 48 << 20;

async fn flooding() -> ScriptedPeer {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(head), Step::Flood(vec![b'x'; 64 * 1024], BODY)]])
        .await
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_upstream() -> Result<()> {
    let peer = flooding().await;
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), json!({}), json!({})), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    assert_eq!(client.head().await?.0, 200);
    let held = settled("the upstream to stop", || peer.flooded()).await?;
    assert!(held < HELD_MAX, "{held} bytes were taken of which none were read");
    let mut read = 0;
    while read < 2 * HELD_MAX {
        read += client.read_some().await?.len() as u64;
    }
    assert!(peer.flooded() > held, "reading lets it go on");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_not_read_stops_only_itself() -> Result<()> {
    let peer = flooding().await;
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), json!({}), json!({})), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut silent = client.open("GET", "a", "/", &[], true).await?;
    assert_eq!(silent.head().await?.0, 200);
    let held = settled("the upstream to stop", || peer.flooded()).await?;
    assert!(held < HELD_MAX, "{held} bytes were taken of which none were read");
    let mut busy = client.open("GET", "a", "/", &[], true).await?;
    assert_eq!(busy.head().await?.0, 200);
    let mut read = 0;
    while read < 4 << 20 {
        read += busy.part().await?.expect("there is more").len();
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_client() -> Result<()> {
    // Only the kernel accepts the connection, and nothing reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let world = World::start(plugins(), &one(&url, json!({}), json!({})), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n")).await?;
    let part = vec![b'x'; 64 * 1024];
    let mut sent = 0_u64;
    while tokio::time::timeout(Duration::from_millis(400), client.send(&part)).await.is_ok() {
        sent += part.len() as u64;
        assert!(sent < HELD_MAX, "{sent} bytes were taken for an upstream that read none");
    }
    assert!(sent > 0);
    Ok(())
}

#[tokio::test]
async fn those_that_do_not_read_leave_room_on_a_shared_connection() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({ "tags": ["upstream-http2"] }), json!({})), &[])?;
    let mut silent = Vec::new();
    for _ in 0..24 {
        let mut client = H1Client::connect(world.http()).await?;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: bytes:100000000,part:65536\r\n\r\n").await?;
        assert_eq!(client.head().await?.0, 200);
        silent.push(client);
    }
    // Waits until all buffers between both sides are full.
    settled("the clients' buffers to be full", || silent.iter().map(H1Client::arrived).sum()).await?;
    for _ in 0..4 {
        let mut client = H1Client::connect(world.http()).await?;
        let request = client.get("/", "a", &[("X-Echo", "bytes:300000")]);
        let response = tokio::time::timeout(Duration::from_secs(2), request).await??;
        assert_eq!(response.body.len(), 300_000);
    }
    assert!(echo.connections() <= 4, "{}", echo.connections());
    Ok(())
}
