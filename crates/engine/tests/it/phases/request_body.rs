//! Filters that process the request body as it is streamed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, settled};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Sender, both, failures, only_failed, world};
use crate::scene::{eventually, sent};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn parts_are_changed_and_the_length_is_that_of_the_result() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for service in [json!({}), json!({ "retries": 0 }), json!({ "tags": ["upstream-http2"], "retries": 0 })] {
        for (does, expect) in [("upper", "SOME TEXT"), ("collect", "some text!")] {
            let world = world(&echo.url(), does, service.clone())?;
            for response in both(&world, "POST", b"some text").await? {
                assert_eq!(response.status, 200, "{does} {service}: {}", response.text());
                assert_eq!(response.json()["body"]["text"], expect, "{does} {service}");
                assert_eq!(response.header("x-seen"), Some("9 1"), "{does} {service}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_only_read_keeps_its_length() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = world(&echo.url(), "count", json!({ "retries": 0 }))?;
    let fields = [("content-length", "9")];
    let h1 = H1Client::connect(world.http()).await?.request("POST", "/", "a", &[], b"some text").await?;
    let h2 = H2Client::connect(world.http()).await?.request("POST", "a", "/", &fields, b"some text").await?;
    for response in [h1, h2] {
        let report = response.json();
        assert_eq!((&*sent(&report, "content-length"), &*sent(&report, "transfer-encoding")), ("9", ""));
        assert_eq!(report["body"]["text"], "some text");
        assert_eq!(response.header("x-seen"), Some("9 1"));
    }
    // A body whose length may change is sent in chunks.
    let world = super::world(&echo.url(), "upper", json!({ "retries": 0 }))?;
    for response in both(&world, "POST", b"some text").await? {
        let report = response.json();
        assert_eq!((&*sent(&report, "content-length"), &*sent(&report, "transfer-encoding")), ("", "chunked"));
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_body_is_seen_once_and_may_be_filled() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let counting = world(&echo.url(), "count", json!({}))?;
    for response in both(&counting, "GET", b"").await? {
        assert_eq!(response.header("x-seen"), Some("0 1"));
    }
    let filling = world(&echo.url(), "collect", json!({}))?;
    for response in both(&filling, "GET", b"").await? {
        assert_eq!((response.header("x-seen"), response.json()["body"]["text"].as_str()), (Some("0 1"), Some("!")));
    }
    Ok(())
}

#[tokio::test]
async fn parts_pass_as_they_come() -> Result<()> {
    let play = vec![Step::until("THE"), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Step::until("END")];
    let play = [play, vec![Step::send("ok"), Step::Drain]].concat();
    for h2 in [false, true] {
        let peer = ScriptedPeer::start(vec![play.clone()]).await;
        let world = world(&format!("http://{}", peer.address()), "upper", json!({ "retries": 0 }))?;
        let mut client = Sender::start(&world, h2, "POST").await?;
        client.part("the").await?;
        // The rest passes through filters while the response is forwarded.
        ensure!(eventually(|| peer.received().concat().ends_with(b"THE\r\n")).await, "{:?}", peer.received());
        client.part(" end").await?;
        client.end().await?;
        let response = client.response().await?;
        assert_eq!((response.status, &*response.text()), (200, "ok"), "h2={h2}");
        ensure!(eventually(|| peer.received().concat().ends_with(b"0\r\n\r\n")).await, "{:?}", peer.received());
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_replies_in_the_middle() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = world(&echo.url(), "stop", json!({}))?;
    for h2 in [false, true] {
        let mut client = Sender::start(&world, h2, "POST").await?;
        client.part("good").await?;
        client.part("bad").await?;
        let response = client.response().await?;
        assert_eq!((response.status, &*response.text()), (422, "{\"message\":\"bad\"}"), "h2={h2}");
        // The other filters see a local reply.
        assert_eq!((response.header("x-status"), response.header("x-source")), (Some("422"), Some("Local")));
    }
    // A buffered body is not sent.
    let requests = settled("the requests of the backend", || echo.requests()).await?;
    for response in both(&world, "PUT", b"a bad body").await? {
        assert_eq!(response.status, 422);
    }
    assert_eq!(echo.requests(), requests);
    // After a request body was read completely, the connection can be reused.
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.request("POST", "/", "a", &[], b"a bad body").await?.status, 422);
    assert_eq!(client.request("POST", "/", "a", &[], b"a good body").await?.status, 200);
    assert_eq!(failures(&world), []);
    Ok(())
}

#[tokio::test]
async fn filters_that_fail_or_cheat_fail_the_request() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for does in ["fail-chunk", "cheat"] {
        let world = world(&echo.url(), does, json!({ "retries": 0 }))?;
        for response in both(&world, "POST", b"some text").await? {
            assert_eq!(response.status, 500, "{does}: {}", response.text());
            assert_eq!(response.text(), "{\"message\":\"An unexpected error occurred\"}", "{does}");
        }
        only_failed(&world, "filter", 2).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_sends_what_filters_have_made() -> Result<()> {
    for (does, first, all) in [("upper", "ABC", "ABC|DEF"), ("collect", "\r\n\r\n", "abcdef!")] {
        for h2 in [false, true] {
            let plays = vec![vec![Step::until(first), Step::Reset], vec![Step::until("\r\n0\r\n\r\n"), Step::send(OK)]];
            let peer = ScriptedPeer::start(plays).await;
            let world = world(&format!("http://{}", peer.address()), does, json!({ "retries": 1 }))?;
            let mut client = Sender::start(&world, h2, "PUT").await?;
            client.part("abc").await?;
            ensure!(eventually(|| peer.connections() == 2).await, "{does} h2={h2}: {:?}", failures(&world));
            let state = || format!("{does} h2={h2}: {:?} {:?}", failures(&world), peer.received());
            client.part("def").await.with_context(state)?;
            client.end().await.with_context(state)?;
            let response = client.response().await.with_context(state)?;
            assert_eq!((response.status, response.header("x-seen")), (200, Some("6 1")), "{}", state());
            let received = String::from_utf8(peer.received().pop().unwrap_or_default())?;
            let body = received.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let parts: Vec<&str> = body.split("\r\n").skip(1).step_by(2).filter(|part| !part.is_empty()).collect();
            assert_eq!(parts.join("|"), all, "{does} h2={h2}: {received}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_expects_continue_gets_it() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for (does, status) in [("upper", 200), ("stop", 422)] {
        let world = world(&echo.url(), does, json!({ "retries": 0 }))?;
        let mut client = H1Client::connect(world.http()).await?;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await?;
        assert_eq!(client.head().await?.0, 100);
        client.send("bad").await?;
        assert_eq!(client.response().await?.status, status);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_whatever_filters_make_of_it() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let plugins = json!([{ "name": "probe", "config": { "does": "collect" } }]);
    let file = crate::scene::one(&echo.url(), json!({ "retries": 0 }), json!({ "plugins": plugins }));
    let world = cardinal_testkit::World::start(super::PLUGINS, &file, &[("nginx_http_client_max_body_size", "8")])?;
    for h2 in [false, true] {
        let mut client = Sender::start(&world, h2, "POST").await?;
        client.part("12345").await?;
        client.part("6789").await?;
        assert_eq!(client.response().await?.status, 413, "h2={h2}");
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_client() -> Result<()> {
    // Only the kernel accepts the connection, and nothing reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let world = world(&format!("http://{}", listener.local_addr()?), "upper", json!({ "retries": 0 }))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 512 << 20)).await?;
    let part = vec![b'x'; 64 * 1024];
    let mut sent = 0_u64;
    while tokio::time::timeout(Duration::from_millis(400), client.send(&part)).await.is_ok() {
        sent += part.len() as u64;
        assert!(sent < 48 << 20, "{sent} bytes were taken for an upstream that read none");
    }
    assert!(sent > 0);
    Ok(())
}

#[tokio::test]
async fn large_bodies_pass_whole() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = world(&echo.url(), "upper", json!({ "retries": 0 }))?;
    let body = vec![b'a'; 3 << 20];
    let h1 = H1Client::connect(world.http()).await?.request("POST", "/", "a", &[], &body).await?;
    let h2 = H2Client::connect(world.http()).await?.request("POST", "a", "/", &[], &body).await?;
    for response in [h1, h2] {
        assert_eq!((response.status, response.header("x-seen")), (200, Some("3145728 1")));
        assert_eq!(response.json()["body"]["bytes"], 3 << 20, "{}", response.text());
    }
    Ok(())
}
