//! Upstreams that end lines with LF only: their responses are accepted, and forwarded with CRLF.

use anyhow::Result;
use cardinal_testkit::{H1Client, H2Client, ScriptedPeer, Step, World};
use serde_json::json;

use crate::plugins;
use crate::scene::{balanced, one, target, until_state};

/// The complete response received by a client if the backend sends `answer`, on a connection that is closed after it.
async fn raw(answer: &str) -> Result<String> {
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(answer)]]).await;
    let service = json!({ "retries": 0 });
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), service, json!({})), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n").await?;
    Ok(String::from_utf8_lossy(&client.read_to_end().await?).into_owned())
}

fn without_bare_lf(text: &str) -> bool {
    text.matches('\n').count() == text.matches("\r\n").count()
}

#[tokio::test]
async fn heads_and_chunks_with_bare_lf_are_passed_on_with_crlf() -> Result<()> {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\nContent-Length: 2\nX-A: 1\nX-B:2\n\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\nX-A: 1\r\nX-B:\t2\n\nok", "ok"),
        ("HTTP/1.0 200 OK\nX-A: 1\nX-B: 2\n\nok", "2\r\nok\r\n0\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nX-A: 1\nX-B: 2\n\n1\no\n1;x=y\r\nk\r\n0\n\n",
            "1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-B: 2\r\n\r\n2\nok\n0\nX-T: 1\n\n",
            "2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        ),
    ] {
        let got = raw(answer).await?;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}: {got:?}");
        assert!(got.contains("\r\nX-A: 1\r\n") && got.contains("\r\nX-B: 2\r\n"), "{answer:?}: {got:?}");
        let (head, rest) = got.split_once("\r\n\r\n").unwrap();
        assert!(without_bare_lf(head) && without_bare_lf(rest), "{answer:?}: {got:?}");
        // Chunks may be divided differently; their content may not change.
        let plain = |text: &str| text.replace("\r\n1\r\n", "\r\n").replace("1\r\no\r\nk\r\n", "2\r\nok\r\n");
        assert_eq!(plain(rest), plain(body), "{answer:?}: {got:?}");
    }
    // An informational head before it.
    let got = raw("HTTP/1.1 103 Early Hints\nLink: <a>\n\nHTTP/1.1 204 No Content\n\n").await?;
    assert!(got.starts_with("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n"), "{got:?}");
    assert!(without_bare_lf(&got), "{got:?}");
    Ok(())
}

#[tokio::test]
async fn other_line_ends_are_refused() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\rContent-Length: 2\r\rok",
        "HTTP/1.1 200 OK\nX: a\rb\n\n",
        "HTTP/1.1 200 OK\nX: a\r\r\n\n",
        "HTTP/1.1 200 OK\n\rX: a\n\n",
        "HTTP/1.1 200 OK\nX: a\n folded\n\n",
        "HTTP/1.1 200 OK\nX: a\0b\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n0\n\n",
    ] {
        let got = raw(answer).await?;
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer:?}: {got:?}");
    }
    for body in ["2\rok\n0\n\n", "2\nok\r0\n\n", "2\nok\n\n0\n\n", "2\n\nok\n0\n\n", "2 x\nok\n0\n\n"] {
        let got = raw(&format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{body}")).await?;
        assert!(!got.ends_with("0\r\n\r\n"), "the response must not look complete: {body:?}: {got:?}");
    }
    // Padded sizes are accepted.
    for body in ["2 \r\nok\r\n0\r\n\r\n", "2\t\nok\n0 \n\n", "00000000000000000002\r\nok\r\n0\r\n\r\n"] {
        let got = raw(&format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n{body}")).await?;
        assert!(got.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{body:?}: {got:?}");
    }
    Ok(())
}

/// Data after such a response on its connection is discarded, and a valid connection is reused.
#[tokio::test]
async fn connections_go_on_after_bare_lf() -> Result<()> {
    let fine = "HTTP/1.1 200 OK\nContent-Length: 4\n\nfine";
    let chunked = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nfine\n0\n\n";
    let twice =
        vec![Step::until("\r\n\r\n"), Step::send(fine), Step::until("\r\n\r\n"), Step::send(chunked), Step::Drain];
    let peer = ScriptedPeer::start(vec![twice]).await;
    let mut configuration =
        World::compiled(plugins(), &one(&format!("http://{}", peer.address()), json!({}), json!({})), &[])?;
    configuration.node_mut().limits.head_timeout_ms = 5_000;
    let world = World::of(plugins(), configuration)?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..2 {
        assert_eq!(client.get("/", "a", &[]).await?.text(), "fine");
    }
    assert_eq!(peer.connections(), 1);
    let poison = "HTTP/1.1 200 OK\nContent-Length: 6\n\npoison";
    let first = vec![Step::until("\r\n\r\n"), Step::send(format!("{chunked}{poison}")), Step::Drain];
    let then = vec![Step::until("\r\n\r\n"), Step::send(fine), Step::Drain];
    let peer = ScriptedPeer::start(vec![first, then]).await;
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), json!({}), json!({})), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    for _ in 0..2 {
        assert_eq!(client.request("GET", "a", "/", &[], b"").await?.text(), "fine");
    }
    assert_eq!(peer.connections(), 2);
    Ok(())
}

#[tokio::test]
async fn requests_with_bare_lf_are_refused() -> Result<()> {
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), json!({}), json!({})), &[])?;
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(request).await?;
        assert_eq!(client.response().await?.status, 400, "{request:?}");
    }
    assert_eq!(peer.connections(), 0);
    Ok(())
}

#[tokio::test]
async fn probes_understand_bare_lf() -> Result<()> {
    let well = vec![Step::until("\r\n\r\n"), Step::send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")];
    let ill = vec![Step::until("\r\n\r\n"), Step::send("HTTP/1.1 500 X\nContent-Length: 0\n\n")];
    for (play, state) in [(well, "healthy"), (ill, "unhealthy")] {
        let peer = ScriptedPeer::start(vec![play]).await;
        let checks = json!({ "healthchecks": { "active": {
            "healthy": { "interval": 0.05, "successes": 1 }, "unhealthy": { "interval": 0.05, "http_failures": 1 }
        } } });
        let world = World::start(plugins(), &balanced(&[target(peer.address())], checks, json!({})), &[])?;
        until_state(&world, peer.address(), state).await?;
    }
    Ok(())
}
