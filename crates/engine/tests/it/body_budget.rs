//! Bodies buffered for plugins use no more memory than the budget of the node, and of the connection.

use std::time::Duration;

use anyhow::Result;
use cardinal_testkit::{EchoServer, H1Client, H2Client, World};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::one;

const MIB: usize = 1 << 20;
/// Part of each body that is sent; the body is never completed.
const PART: usize = 400 * 1024;

fn world(url: &str, plugin: Value, settings: &[(&str, &str)]) -> Result<World> {
    World::start(plugins(), &one(url, json!({}), json!({ "plugins": [plugin] })), settings)
}

/// Buffers request bodies.
fn transformer() -> Value {
    json!({ "name": "request-transformer", "config": { "add": { "body": ["a:b"] } } })
}

/// Buffers request bodies before authentication.
fn key_in_body() -> Value {
    json!({ "name": "key-auth", "config": { "key_in_body": true } })
}

fn used(world: &World) -> usize {
    world.engine().services().memory.used()
}

async fn until(what: &str, is: impl Fn() -> bool) {
    cardinal_testkit::until(what, is).await.unwrap();
}

#[tokio::test]
async fn one_http2_connection_gets_its_part_only() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    for plugin in [transformer(), key_in_body()] {
        let open = plugin["name"] == "request-transformer";
        let world = world(&echo.url(), plugin, &[("body_buffer_max", "1m"), ("body_buffer_budget", "8m")])?;
        let mut client = H2Client::connect(world.http()).await?;
        let fields = [("content-type", "application/x-www-form-urlencoded")];
        let mut refused = 0;
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let mut stream = client.open("POST", "a", "/", &fields, false).await?;
            // A refused stream is reset.
            match stream.send(&vec![b'x'; PART], false).await {
                Ok(()) => waiting.push(stream),
                Err(_) => refused += 1,
            }
        }
        // An eighth of the node's budget, and enough for one body.
        until("some are refused", || world.engine().services().memory.refused() > 0).await;
        assert!(used(&world) <= MIB, "{}", used(&world));
        let overloaded = |world: &World| {
            let failures = world.engine().totals().failures;
            failures.iter().find(|(kind, _)| kind.label() == "overloaded").map_or(0, |(_, count)| *count)
        };
        until("the others are answered 503", || overloaded(&world) + refused >= 5).await;
        // Other connections are unaffected.
        let mut other = H1Client::connect(world.http()).await?;
        let response = other.request("POST", "/", "a", &fields, &vec![b'x'; PART]).await?;
        assert_eq!(response.status, if open { 200 } else { 401 }, "{}", response.text());
        for stream in &mut waiting {
            stream.reset();
        }
        until("everything is given back", || used(&world) == 0).await;
    }
    Ok(())
}

#[tokio::test]
async fn many_connections_share_the_budget() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let world = world(&echo.url(), transformer(), &[("body_buffer_max", "1m"), ("body_buffer_budget", "1m")])?;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("{head}Content-Length: {}\r\n\r\n", PART + 1)).await?;
        client.send(vec![b'x'; PART]).await.ok();
        clients.push(client);
    }
    until("some are refused", || world.engine().services().memory.refused() >= 4).await;
    assert!(used(&world) <= MIB, "{}", used(&world));
    let mut statuses = Vec::new();
    for client in &mut clients {
        client.send("x").await.ok();
        statuses.push(client.response().await.map_or(0, |response| response.status));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 4, "{statuses:?}");
    until("everything is given back", || used(&world) == 0).await;
    Ok(())
}

#[tokio::test]
async fn slow_senders_do_not_hold_memory_for_ever() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let settings = [("client_body_timeout", "300ms")];
    let world = world(&echo.url(), transformer(), &settings)?;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    // One client stops sending, the other sends a byte from time to time.
    let mut stopped = H1Client::connect(world.http()).await?;
    stopped.send(format!("{head}Content-Length: 1000\r\n\r\nx")).await?;
    let mut slow = H1Client::connect(world.http()).await?;
    slow.send(format!("{head}Content-Length: 1000\r\n\r\nx")).await?;
    assert_eq!(stopped.response().await?.status, 408);
    until("the memory of the first is given back", || used(&world) < 2_000).await;
    let mut sent = 0;
    let response = loop {
        if let Ok(response) = tokio::time::timeout(Duration::from_millis(50), slow.response()).await {
            break response?;
        }
        slow.send("x").await.ok();
        sent += 1;
        assert!(sent < 400, "it is listened to for ever");
    };
    assert_eq!(response.status, 408);
    until("everything is given back", || used(&world) == 0).await;
    Ok(())
}

#[tokio::test]
async fn response_bodies_count_too() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let plugin = json!({ "name": "response-transformer", "config": { "add": { "json": ["a:b"] } } });
    let world = world(&echo.url(), plugin, &[("body_buffer_max", "4m"), ("body_buffer_budget", "1m")])?;
    let mut client = H1Client::connect(world.http()).await?;
    let get = async |client: &mut H1Client, bytes: usize| {
        let words = format!("bytes:{bytes},header:Content-Type=application/json");
        client.get("/", "a", &[("X-Echo", &words)]).await.map(|response| response.status)
    };
    assert_eq!(get(&mut client, MIB / 2).await?, 200);
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(get(&mut client, 2 * MIB).await?, 503);
    until("everything is given back", || used(&world) == 0).await;
    Ok(())
}

#[tokio::test]
async fn small_bodies_stream_when_there_is_no_room_to_hold_them() -> Result<()> {
    let echo = EchoServer::start("backend").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    let memory = &world.engine().services().memory;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.request("PUT", "/", "a", &[], &[b'x'; 9_000]).await?.status, 200);
    until("everything is given back", || memory.used() == 0).await;
    memory.set_max(0);
    assert_eq!(client.request("PUT", "/", "a", &[], &[b'x'; 9_000]).await?.status, 200);
    assert_eq!(memory.refused(), 0);
    Ok(())
}
