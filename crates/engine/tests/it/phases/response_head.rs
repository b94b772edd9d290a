//! Filters that wait or reply in the response head phase.

use anyhow::{Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::json;

use super::{PLUGINS, both, failures, only_failed, world};
use crate::scene::{eventually, one};

const BYTES: (&str, &str) = ("x-echo", "bytes:5");

#[tokio::test]
async fn a_response_waits_for_a_filter() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = world(&echo.url(), "response-later", json!({}))?;
    let h1 = H1Client::connect(world.http()).await?.get("/", "a", &[BYTES]).await?;
    let h2 = H2Client::connect(world.http()).await?.request("GET", "a", "/", &[BYTES], b"").await?;
    for response in [h1, h2] {
        assert_eq!((response.status, response.header("x-later")), (200, Some("1")));
        // The body was processed as requested by the filter after its wait.
        assert_eq!((response.body.len(), response.body.last()), (6, Some(&b'+')));
        assert_eq!((response.header("x-status"), response.header("x-source")), (Some("200"), Some("Upstream")));
    }
    Ok(())
}

#[tokio::test]
async fn a_reply_takes_the_place_of_the_response() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for does in ["response-reply", "response-reply-later"] {
        let world = world(&echo.url(), does, json!({}))?;
        for response in both(&world, "POST", b"abc").await? {
            assert_eq!((response.status, &*response.text()), (403, "{\"message\":\"not for you\"}"), "{does}");
            assert_eq!(response.header("x-reply"), Some("1"), "{does}");
            assert_eq!((response.header("x-status"), response.header("x-source")), (Some("403"), Some("Local")));
        }
        // Both connections are reused: the client's, and the one whose response was replaced.
        let mut client = H1Client::connect(world.http()).await?;
        for _ in 0..3 {
            assert_eq!(client.get("/", "a", &[BYTES]).await?.status, 403);
        }
        assert_eq!(client.request("HEAD", "/", "a", &[], b"").await?.body.len(), 0);
        assert_eq!(client.get("/", "a", &[]).await?.status, 403);
        assert_eq!(failures(&world), []);
    }
    Ok(())
}

#[tokio::test]
async fn a_reply_ends_a_response_that_goes_on() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc";
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(head), Step::Drain]]).await;
    let world = world(&format!("http://{}", peer.address()), "response-reply", json!({}))?;
    for response in both(&world, "GET", b"").await? {
        assert_eq!(response.status, 403);
    }
    assert_eq!(peer.connections(), 2, "the connections are not used again");
    Ok(())
}

#[tokio::test]
async fn a_protocol_switch_can_be_refused() -> Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(head), Step::Drain]]).await;
    let world = world(&format!("http://{}", peer.address()), "response-reply-later", json!({}))?;
    let mut client = H1Client::connect(world.http()).await?;
    let fields = [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")];
    let response = client.get("/", "a", &fields).await?;
    assert_eq!(response.status, 403);
    assert_eq!(client.get("/", "a", &fields).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_answered_once() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for does in ["response-fail", "response-odd"] {
        let world = world(&echo.url(), does, json!({}))?;
        for response in both(&world, "GET", b"").await? {
            assert_eq!(response.status, 500, "{does}");
            // The other filters see the response to the failure.
            assert_eq!((response.header("x-status"), response.header("x-source")), (Some("500"), Some("Local")));
        }
    }
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_response_filter_has_an_end() -> Result<()> {
    let echo = EchoServer::start("e").await;
    // The response to the failure also passes through the filter.
    let settings = [("client_send_timeout", "200ms")];
    let plugins = json!([{ "name": "probe", "config": { "does": "response-never" } }]);
    let file = one(&echo.url(), json!({ "read_timeout": 300 }), json!({ "plugins": plugins }));
    let limited = World::start(PLUGINS, &file, &settings)?;
    for response in both(&limited, "GET", b"").await? {
        assert_eq!(response.status, 500);
    }
    only_failed(&limited, "filter", 2).await?;
    let patient = world(&echo.url(), "response-never", json!({}))?;
    let mut client = H1Client::connect(patient.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    ensure!(eventually(|| patient.engine().services().node.connections().writing == 1).await);
    drop(client);
    only_failed(&patient, "client_closed", 1).await
}
