use std::net::SocketAddr;

use cardinal_net::{Stage, connect};
use cardinal_testkit::{EchoServer, Play, ScriptedPeer, Step, within};

use super::*;

async fn connection(address: SocketAddr) -> Connection {
    let connected = connect(address, None, None, &Stage::default()).await.unwrap();
    Connection::http1(connected.io).await.unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = target(path).unwrap().into();
    request.headers_mut().insert("host", "a.test".parse().unwrap());
    request
}

async fn exchange(connection: &mut Connection, body_max: u64) -> Result<Reply, Failed> {
    let response = within("a response", connection.request(get("/"))).await.unwrap()?;
    within("a body", connection.read(response, body_max)).await.unwrap()
}

/// The failure of a request to a peer that behaves like this: disconnected, sent, answered; and the text.
async fn failure(play: Play) -> ((bool, bool, bool), String) {
    let peer = ScriptedPeer::start(vec![play]).await;
    let failed = exchange(&mut connection(peer.address()).await, 1_000).await.unwrap_err();
    ((failed.cause.is_disconnect(), failed.sent, failed.answered), failed.cause.to_string())
}

#[tokio::test]
async fn failures_tell_what_the_server_may_have_done() {
    let head = || Step::until("\r\n\r\n");
    for (play, expect, text) in [
        (vec![head()], (true, true, false), "connection closed"),
        (vec![head(), Step::send("HTTP/1.1 2")], (true, true, true), "connection closed"),
        (vec![head(), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")], (true, true, true), "connection"),
        (
            vec![head(), Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Step::Drain],
            (false, true, true),
            "invalid response",
        ),
        (vec![head(), Step::send("SSH-2.0\r\n\r\n"), Step::Drain], (false, true, true), "invalid response"),
        (vec![head(), Step::send("HTTP/1.1 101 X\r\n\r\n"), Step::Drain], (false, true, true), "informational"),
        (
            vec![head(), Step::send(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000))), Step::Drain],
            (false, true, true),
            "invalid response",
        ),
        (
            vec![head(), Step::send(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(1_001))), Step::Drain],
            (false, true, true),
            "invalid response",
        ),
    ] {
        let (found, found_text) = failure(play).await;
        assert_eq!(found, expect, "{found_text}");
        assert!(found_text.contains(text), "{found_text}");
    }
}

#[tokio::test]
async fn bodies_are_limited_whether_their_length_is_known_or_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1_001)),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_001)),
    ] {
        let play = vec![Step::until("\r\n\r\n"), Step::send(answer.clone()), Step::Drain];
        let peer = ScriptedPeer::start(vec![play]).await;
        let failed = exchange(&mut connection(peer.address()).await, 1_000).await.unwrap_err();
        assert!(matches!(failed.cause, Cause::TooLarge), "{answer}: {failed:?}");
    }
}

#[tokio::test]
async fn a_connection_is_reusable_after_a_whole_response_only() {
    let echo = EchoServer::start("a").await;
    let mut kept = connection(echo.address()).await;
    for _ in 0..3 {
        exchange(&mut kept, 100_000).await.unwrap();
        assert!(kept.is_reusable().await);
    }
    assert_eq!(echo.connections(), 1);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
    ] {
        let play = vec![Step::until("\r\n\r\n"), Step::send(answer), Step::Drain];
        let peer = ScriptedPeer::start(vec![play]).await;
        let mut once = connection(peer.address()).await;
        exchange(&mut once, 0).await.unwrap();
        assert!(!once.is_reusable().await, "{answer}");
    }
}

#[test]
fn targets_have_only_bytes_that_targets_may_have() {
    for (path, expect) in [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("x", "/x"),
        ("/a%20b?c=%2F", "/a%20b?c=%2F"),
        ("/a b#<>\"`", "/a%20b%23%3C%3E%22%60"),
        ("/é\r\n", "/%C3%A9%0D%0A"),
    ] {
        assert_eq!(target(path).unwrap().as_str(), expect, "{path}");
    }
    assert!(target(&"x".repeat(70_000)).is_err());
}
