use cardinal_testkit::{Frame, H1Client, H2Client, Opcode, WebSocket};

use super::*;

/// Starts the backend; it ends with the test's runtime.
async fn echo() -> SocketAddr {
    let echo = Echo::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = echo.address();
    drop(task::spawn("echo", echo.serve()));
    address
}

#[test]
fn paths_carry_directions() {
    let directions = |path| Directions::of(path);
    assert_eq!(directions("/hello"), Directions::default());
    assert_eq!(directions("/status/503").status, Some(503));
    assert_eq!(directions("/v1/status/404/x").status, Some(404));
    assert_eq!(directions("/status/99").status, None);
    assert_eq!(directions("/status/70000").status, None);
    assert_eq!(directions("/delay/5"), Directions { status: None, delay: Duration::from_millis(5) });
    assert_eq!(directions("/delay/999999999").delay, Duration::from_millis(DELAY_MAX_MS));
}

#[tokio::test]
async fn it_tells_what_reached_it() {
    let mut client = H1Client::connect(echo().await).await.unwrap();
    let fields = [("X-A", "1"), ("x-a", "2")];
    let seen = client.request("POST", "/p?q=1", "example.com", &fields, b"hello").await.unwrap().json();
    assert_eq!(
        seen,
        json!({
            "version": "HTTP/1.1", "method": "POST", "host": "example.com", "path": "/p", "query": "q=1",
            "headers": {"host": "example.com", "x-a": "1, 2", "content-length": "5"}, "body": "hello",
        })
    );
    // The connection stays, whatever the answer.
    assert_eq!(client.get("/status/204", "h", &[]).await.unwrap().status, 204);
    assert_eq!(client.request("HEAD", "/", "h", &[], b"").await.unwrap().status, 200);
    assert_eq!(client.get("/delay/1/status/503", "h", &[]).await.unwrap().status, 503);
}

#[tokio::test]
async fn bad_requests_are_answered_and_end_the_connection() {
    let address = echo().await;
    let long = "x".repeat(BODY_MAX + 1);
    let too_long = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{long}", long.len());
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (too_long.as_str(), 413),
    ] {
        let mut client = H1Client::connect(address).await.unwrap();
        client.send(bytes).await.unwrap();
        let response = client.response().await.unwrap();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")));
    }
}

#[tokio::test]
async fn http2_and_grpc_are_served_beside_it() {
    let mut client = H2Client::connect(echo().await).await.unwrap();
    let seen = client.request("POST", "example.com", "/p?q", &[("x-a", "1")], b"hi").await.unwrap().json();
    assert_eq!(
        (&seen["version"], &seen["host"], &seen["body"]),
        (&json!("HTTP/2"), &json!("example.com"), &json!("hi"))
    );
    assert_eq!(client.request("GET", "h", "/status/418", &[], b"").await.unwrap().status, 418);
    let reply = client.grpc("h", "/a.B/C", &[], &[b"one", b"two"]).await.unwrap();
    assert_eq!((reply.status, reply.messages), (0, vec![b"one".to_vec(), b"two".to_vec()]));
    // A client that counts bytes must wait for the trailers.
    let fields = [("content-type", "application/grpc"), ("content-length", "7")];
    let unary = client.request("POST", "h", "/a.B/C", &fields, b"\0\0\0\0\x02hi").await.unwrap();
    assert_eq!((unary.status, unary.header("content-length"), unary.body.len()), (200, None, 7));
}

#[tokio::test]
async fn websockets_get_their_frames_back() {
    let client = H1Client::connect(echo().await).await.unwrap();
    let mut socket = WebSocket::open(client, "/ws", "h", &[]).await.unwrap();
    for length in [0, 125, 126, 65_536] {
        let frame = Frame { last: true, opcode: Opcode::Text, payload: vec![b'a'; length] };
        socket.send(&frame).await.unwrap();
        assert_eq!(socket.next().await.unwrap(), Some(frame));
    }
    socket.send(&Frame { last: true, opcode: Opcode::Close, payload: Vec::new() }).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().opcode, Opcode::Close);
}
