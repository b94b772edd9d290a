//! Backends that send more than the response: the surplus must not reach another client.

use anyhow::Result;
use cardinal_testkit::{H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::json;

use crate::plugins;

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine";

/// A backend that sends this response on its first connection, and valid ones on all others.
async fn start(answer: &str) -> Result<(ScriptedPeer, World)> {
    let first =
        vec![Step::until("\r\n\r\n"), Step::send(answer), Step::until("\r\n\r\n"), Step::send(POISON), Step::Drain];
    let then = vec![Step::until("\r\n\r\n"), Step::send(FINE), Step::Drain];
    let peer = ScriptedPeer::start(vec![first, then]).await;
    let file = json!({"_format_version": "3.0", "services": [{"name": "s", "url": format!("http://{}", peer.address()),
        "retries": 0, "routes": [{"name": "r", "paths": ["/"]}]}]});
    let world = World::start(plugins(), &file.to_string(), &[])?;
    Ok((peer, world))
}

#[tokio::test]
async fn what_comes_after_a_response_is_nobodys() -> Result<()> {
    for (method, answer) in [
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{POISON}")),
        ("GET", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}")),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n{POISON}")),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{POISON}")),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{POISON}")),
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n\r\n{POISON}")),
    ] {
        let (peer, world) = start(&answer).await?;
        let mut client = H1Client::connect(world.http()).await?;
        let first = client.request(method, "/", "a", &[], b"").await?;
        assert!(first.status < 500 && !first.text().contains("poison"), "{answer:?}: {}", first.text());
        for _ in 0..4 {
            // There are two workers, so several connections are used.
            let mut other = H1Client::connect(world.http()).await?;
            for response in [client.get("/", "a", &[]).await?, other.get("/", "a", &[]).await?] {
                assert_eq!((response.status, response.text().as_str()), (200, "fine"), "{method} {answer:?}");
            }
        }
        assert!(peer.connections() > 1, "a connection that said too much is not used again");
    }
    Ok(())
}

#[tokio::test]
async fn responses_with_two_readings_are_refused() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (_peer, world) = start(answer).await?;
        let mut client = H1Client::connect(world.http()).await?;
        let response = client.get("/", "a", &[]).await?;
        assert_eq!(response.status, 502, "{answer:?}: {}", response.text());
        assert_eq!(response.header("set-cookie"), None, "{answer:?}");
        assert_eq!(client.get("/", "a", &[]).await?.text(), "fine", "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn broken_bodies_end_the_response_visibly() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad trailer\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r0\n\n",
    ] {
        let (_peer, world) = start(answer).await?;
        let mut client = H1Client::connect(world.http()).await?;
        let cut = client.get("/", "a", &[]).await;
        assert!(cut.as_ref().is_ok_and(|r| r.status == 502) || cut.is_err(), "{answer:?}: {cut:?}");
        let (_peer, world) = start(answer).await?;
        let mut client = H2Client::connect(world.http()).await?;
        let cut = client.request("GET", "a", "/", &[], b"").await;
        assert!(cut.as_ref().is_ok_and(|r| r.status == 502) || cut.is_err(), "{answer:?}: {cut:?}");
        assert_eq!(client.request("GET", "a", "/", &[], b"").await?.text(), "fine");
    }
    Ok(())
}
