//! The backend, seen by both clients.

use cardinal_testkit::{Authority, EchoServer, Frame, H1Client, H2Client, Opcode, WebSocket};
use serde_json::json;

async fn h1(server: &EchoServer) -> H1Client {
    H1Client::connect(server.address()).await.unwrap()
}

/// The response over HTTP/1.1 to a `GET` that asks for this behaviour.
async fn ask(server: &EchoServer, words: &str) -> anyhow::Result<cardinal_testkit::Response> {
    h1(server).await.get("/x?a=1", "h", &[("X-Echo", words)]).await
}

#[tokio::test]
async fn it_reports_what_reached_it() {
    let server = EchoServer::start("one").await;
    let mut client = h1(&server).await;
    let fields = [("X-B", "2"), ("X-A", "1"), ("X-B", "3")];
    let first = client.request("POST", "/a%20b?c=d", "example.com", &fields, b"hello").await.unwrap();
    let report = first.json();
    assert_eq!(report["method"], "POST");
    assert_eq!((&report["path"], &report["query"]), (&json!("/a%20b"), &json!("c=d")));
    assert_eq!(
        report["headers"],
        json!([["Host", "example.com"], ["X-B", "2"], ["X-A", "1"], ["X-B", "3"], ["Content-Length", "5"]])
    );
    assert_eq!(report["body"]["text"], "hello");
    assert_eq!(report["body"]["sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    let second = client.get("/", "example.com", &[]).await.unwrap().json();
    assert_eq!((&second["connection"], &second["request"]), (&json!(1), &json!(2)));
    assert_eq!((server.connections(), server.requests(), server.seen().len()), (1, 2, 2));
    assert_eq!(server.failures(), Vec::<String>::new());
}

#[tokio::test]
async fn it_answers_as_it_is_told() {
    let server = EchoServer::start("one").await;
    let response = ask(&server, "status:418,header:X-One=1,interim:103,interim:102").await.unwrap();
    assert_eq!((response.status, response.reason.as_str()), (418, "I'm a teapot"));
    assert_eq!(response.header("x-one"), Some("1"));
    assert_eq!(response.interim.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [103, 102]);

    let response = ask(&server, "bytes:100000,framing:chunked,trailers,part:999").await.unwrap();
    assert_eq!((response.body.len(), response.trailers.get("x-trailer")), (100_000, Some("end")));
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));

    let response = ask(&server, "bytes:70000,framing:close").await.unwrap();
    assert_eq!((response.body.len(), response.header("connection")), (70_000, Some("close")));

    assert_eq!(ask(&server, "body:empty,status:204").await.unwrap().body, b"");
    assert_eq!(ask(&server, "delay:1,slow:1,part:5000,bytes:10000").await.unwrap().body.len(), 10_000);
    assert_eq!(ask(&server, "no-such-word").await.unwrap().status, 400);
    let response = h1(&server).await.get("/?echo=status:404", "h", &[]).await.unwrap();
    assert_eq!(response.status, 404);
}

/// The body is made as it is sent, and counted as it is read: nobody holds it.
#[tokio::test]
async fn bodies_may_be_huge() {
    let server = EchoServer::start("one").await;
    let mut client = h1(&server).await;
    client.send("GET /?echo=bytes:100000000 HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert_eq!(client.response_counted().await.unwrap(), (200, 100_000_000));
}

#[tokio::test]
async fn it_breaks_off_as_it_is_told() {
    let server = EchoServer::start("one").await;
    for (words, expect) in [
        ("cut:start", "before a response"),
        ("cut:head", "inside a head"),
        ("cut:body", "inside the body"),
        ("cut:body,framing:chunked", "inside the body"),
        ("cut:start,reset", "reset by peer"),
    ] {
        let error = ask(&server, words).await.unwrap_err();
        assert!(format!("{error:#}").contains(expect), "{words}: {error:#}");
    }
}

#[tokio::test]
async fn bodies_come_back_as_they_are_sent() {
    let server = EchoServer::start("one").await;
    let mut client = h1(&server).await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nX-Echo: body:echo\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await.unwrap();
    assert_eq!(client.head().await.unwrap().0, 200);
    client.send("3\r\nabc\r\n").await.unwrap();
    assert_eq!(client.read_some().await.unwrap(), b"3\r\nabc\r\n");
    client.send("0\r\nX-T: 1\r\n\r\n").await.unwrap();
    assert_eq!(client.read_some().await.unwrap(), b"0\r\n\r\n");
    assert_eq!(client.get("/", "h", &[]).await.unwrap().status, 200);
    assert_eq!(server.seen()[0].trailers.get("x-t"), Some("1"));
}

#[tokio::test]
async fn expectations_are_met_unless_the_answer_comes_early() {
    let server = EchoServer::start("one").await;
    let mut client = h1(&server).await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().0, 100);
    client.send("hi").await.unwrap();
    assert_eq!(client.response().await.unwrap().json()["body"]["text"], "hi");

    let early = "POST / HTTP/1.1\r\nHost: h\r\nX-Echo: early,status:413\r\nContent-Length: 2\r\n\r\n";
    client.send(early).await.unwrap();
    assert_eq!(client.response().await.unwrap().status, 413);
}

#[tokio::test]
async fn http2_is_served_beside_it() {
    let server = EchoServer::start("one").await;
    let mut client = H2Client::connect(server.address()).await.unwrap();
    let response = client.request("POST", "example.com", "/p?q", &[("x-a", "1")], b"hello").await.unwrap();
    let report = response.json();
    assert_eq!((&report["version"], &report["authority"]), (&json!("2"), &json!("example.com")));
    assert_eq!((&report["target"], &report["body"]["text"]), (&json!("/p?q"), &json!("hello")));
    let response = client.request("GET", "h", "/?echo=bytes:3000000,trailers", &[], b"").await.unwrap();
    assert_eq!((response.body.len(), response.trailers.get("x-trailer")), (3_000_000, Some("end")));
    let error = client.request("GET", "h", "/?echo=cut:body", &[], b"").await.unwrap_err();
    assert!(error.to_string().contains("internal error"), "{error}");
}

#[tokio::test]
async fn tls_serves_what_alpn_chooses() {
    let authority = Authority::new("Test CA");
    let config = authority.server(&authority.issue(&["example.com"]), &["h2", "http/1.1"], false);
    let server = EchoServer::start_tls("one", config).await;
    let identity = authority.issue_rsa(&["client"]);

    let mut client =
        H2Client::connect_tls(server.address(), "example.com", authority.client(None, &["h2"])).await.unwrap();
    let report = client.request("GET", "example.com", "/", &[], b"").await.unwrap().json();
    assert_eq!((&report["version"], &report["sni"]), (&json!("2"), &json!("example.com")));
    assert_eq!(report["client_certificate"], false);

    let config = authority.client(Some(&identity), &["http/1.1"]);
    let mut client = H1Client::connect_tls(server.address(), "example.com", config).await.unwrap();
    let report = client.get("/", "example.com", &[]).await.unwrap().json();
    assert_eq!((&report["version"], &report["client_certificate"]), (&json!("1.1"), &json!(true)));

    let stranger = Authority::new("Stranger").client(None, &[]);
    assert!(H1Client::connect_tls(server.address(), "example.com", stranger).await.is_err());
}

#[tokio::test]
async fn websockets_send_frames_back() {
    let server = EchoServer::start("one").await;
    let mut socket = WebSocket::open(h1(&server).await, "/ws", "h", &[]).await.unwrap();
    for length in [0, 125, 126, 65_535, 65_536] {
        let frame = Frame { last: true, opcode: Opcode::Binary, payload: vec![7; length] };
        socket.send(&frame).await.unwrap();
        assert_eq!(socket.next().await.unwrap(), Some(frame), "{length}");
    }
    socket.send(&Frame { last: true, opcode: Opcode::Ping, payload: b"p".to_vec() }).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().opcode, Opcode::Pong);
    let close = Frame { last: true, opcode: Opcode::Close, payload: vec![3, 232] };
    socket.send(&close).await.unwrap();
    assert_eq!(socket.next().await.unwrap(), Some(close));
    assert_eq!(socket.next().await.unwrap(), None);
    assert_eq!(server.failures(), Vec::<String>::new());
}

#[tokio::test]
async fn grpc_messages_come_back_as_they_are_sent() {
    let server = EchoServer::start("one").await;
    let mut client = H2Client::connect(server.address()).await.unwrap();
    let reply = client.grpc("h", "/echo.Echo/Many", &[], &[b"one", b"", b"three"]).await.unwrap();
    assert_eq!((reply.status, reply.messages), (0, vec![b"one".to_vec(), b"".to_vec(), b"three".to_vec()]));

    // Both directions at once: an answer before the next question.
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut exchange = client.open("POST", "h", "/echo.Echo/Chat", &fields, false).await.unwrap();
    for message in [b"a".as_slice(), b"bb"] {
        let framed = cardinal_testkit::frame(message);
        exchange.send(&framed, false).await.unwrap();
        if message == b"a" {
            assert_eq!(exchange.head().await.unwrap().0, 200);
        }
        assert_eq!(exchange.part().await.unwrap().unwrap(), framed);
    }
    exchange.send(b"", true).await.unwrap();
    assert_eq!(exchange.part().await.unwrap(), None);
    assert_eq!(exchange.trailers().await.unwrap().get("grpc-status"), Some("0"));
}
