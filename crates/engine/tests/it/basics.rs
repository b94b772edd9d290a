//! A minimal configuration: one service, one route, key-auth, over every protocol pair.

use anyhow::Result;
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, WebSocket, World, frame};

use crate::plugins;

/// A file with one service at `url` behind `/api`, with `more` merged into the route.
fn file(url: &str, more: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: echo\n  url: {url}/base\n  routes:\n  - name: api\n    paths: [/api]\n{more}"
    )
}

const KEY_AUTH: &str =
    "    plugins:\n    - name: key-auth\nconsumers:\n- username: alice\n  keyauth_credentials:\n  - key: secret\n";

#[tokio::test]
async fn a_request_goes_through() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    for round in 0..3 {
        let response =
            client.get(&format!("/api/x%20y?a=1&round={round}"), "example.com:81", &[("X-Mine", "1")]).await?;
        assert_eq!(response.status, 200, "{}", response.text());
        let seen = response.json();
        assert_eq!(seen["target"], format!("/base/x%20y?a=1&round={round}"));
        let header = |name: &str| {
            let headers = seen["headers"].as_array().unwrap();
            let found = headers.iter().find(|h| h[0].as_str().unwrap().eq_ignore_ascii_case(name));
            found.map(|h| h[1].as_str().unwrap().to_owned())
        };
        assert_eq!(header("host").unwrap(), echo.address().to_string());
        assert_eq!(header("x-mine").unwrap(), "1");
        assert_eq!(header("x-forwarded-host").unwrap(), "example.com");
        assert_eq!(header("x-forwarded-port").unwrap(), "81");
        assert_eq!(header("x-forwarded-proto").unwrap(), "http");
        assert_eq!(header("x-forwarded-for").unwrap(), "127.0.0.1");
        assert_eq!(header("x-forwarded-prefix").unwrap(), "/api");
        assert!(header("via").unwrap().starts_with("1.1 cardinal"));
        assert_eq!(header("connection").unwrap(), "keep-alive");
        assert_eq!(seen["connection"], 1, "the upstream connection is reused");
        assert!(response.header("via").is_some());
        assert!(response.header("x-kong-upstream-latency").is_some());
        assert_eq!(response.header("x-kong-request-id").map(str::len), Some(32));
    }
    Ok(())
}

#[tokio::test]
async fn key_auth_lets_in_who_has_a_key() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let world = World::start(plugins(), &file(&echo.url(), KEY_AUTH), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let refused = client.get("/api", "a", &[]).await?;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Key")));
    assert_eq!(refused.json()["message"], "No API key found in request");
    let welcome = client.get("/api", "a", &[("apikey", "secret")]).await?;
    assert_eq!(welcome.status, 200);
    assert!(welcome.text().contains("alice"));
    let lost = client.get("/other", "a", &[]).await?;
    assert_eq!((lost.status, lost.json()["message"].as_str()), (404, Some("no Route matched with those values")));
    Ok(())
}

#[tokio::test]
async fn bodies_pass_in_every_framing() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let large = vec![b'x'; 300_000];
    let response = client.request("POST", "/api", "a", &[], &large).await?;
    assert_eq!(response.json()["body"]["bytes"], 300_000);
    client
        .send("POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n")
        .await?;
    let response = client.response().await?;
    assert_eq!(response.json()["body"]["text"], "hello");
    client.send("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await?;
    let (status, _) = client.head().await?;
    assert_eq!(status, 100);
    client.send("hello").await?;
    assert_eq!(client.response().await?.json()["body"]["text"], "hello");
    for behaviour in ["bytes:200000", "bytes:200000,framing:chunked", "bytes:200000,framing:close"] {
        let response = client.get("/api", "a", &[("X-Echo", behaviour)]).await?;
        assert_eq!(response.body.len(), 200_000, "{behaviour}");
    }
    Ok(())
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let one = |n: u32| format!("GET /api/{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send((0..5).map(one).collect::<String>()).await?;
    for n in 0..5 {
        assert_eq!(client.response().await?.json()["path"], format!("/base/{n}"));
    }
    Ok(())
}

#[tokio::test]
async fn http2_goes_to_http1_and_back() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let response = client.request("GET", "example.com", "/api/x?q=1", &[("x-mine", "1")], b"").await?;
    assert_eq!((response.status, response.json()["version"].as_str()), (200, Some("1.1")));
    let large = vec![b'x'; 300_000];
    let response = client.request("POST", "example.com", "/api", &[], &large).await?;
    assert_eq!(response.json()["body"]["bytes"], 300_000);
    let response = client.request("GET", "example.com", "/api", &[("x-echo", "bytes:500000")], b"").await?;
    assert_eq!(response.body.len(), 500_000);
    let response = client.request("GET", "example.com", "/nothing", &[], b"").await?;
    assert_eq!(response.status, 404);
    Ok(())
}

#[tokio::test]
async fn tls_serves_both_versions_by_name() -> Result<()> {
    let echo = EchoServer::start("one").await;
    let authority = Authority::new("test root");
    let issued = authority.issue(&["secure.test"]);
    let indent = |pem: &str| pem.lines().map(|l| format!("    {l}\n")).collect::<String>();
    let more = format!(
        "certificates:\n- cert: |\n{}  key: |\n{}  snis:\n  - name: secure.test\n",
        indent(&issued.cert_pem),
        indent(&issued.key_pem)
    );
    let world = World::start(plugins(), &file(&echo.url(), &more), &[])?;
    let h1 = authority.client(None, &["http/1.1"]);
    let mut client = H1Client::connect_tls(world.https(), "secure.test", h1).await?;
    let response = client.get("/api", "secure.test", &[]).await?;
    assert_eq!(response.status, 200);
    assert!(response.text().contains("https"));
    let h2 = authority.client(None, &["h2"]);
    let mut client = H2Client::connect_tls(world.https(), "secure.test", h2).await?;
    let response = client.request("GET", "secure.test", "/api", &[], b"").await?;
    assert_eq!(response.status, 200);
    Ok(())
}

#[tokio::test]
async fn upstreams_are_spoken_to_over_tls() -> Result<()> {
    let authority = Authority::new("test root");
    let issued = authority.issue(&["localhost"]);
    let echo = EchoServer::start_tls("tls", authority.server(&issued, &["http/1.1"], false)).await;
    let url = echo.url();
    let world = World::start(plugins(), &file(&url, ""), &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/api", "a", &[]).await?;
    assert_eq!(response.status, 200, "{}", response.text());
    Ok(())
}

#[tokio::test]
async fn grpc_passes_with_trailers() -> Result<()> {
    let echo = EchoServer::start("grpc").await;
    let url = echo.url().replace("http://", "grpc://");
    let yaml = format!(
        "_format_version: \"3.0\"\nservices:\n- name: g\n  url: {url}\n  routes:\n  - name: g\n    protocols: [grpc, grpcs]\n    paths: [/]\n"
    );
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut call = client
        .open(
            "POST",
            "example.com",
            "/pkg.Service/Bidi",
            &[("content-type", "application/grpc"), ("te", "trailers")],
            false,
        )
        .await?;
    for n in 0..3_u8 {
        call.send(&frame(&[n; 10]), n == 2).await?;
    }
    let (status, head) = call.head().await?;
    assert_eq!((status, head.get("content-type")), (200, Some("application/grpc")));
    let mut bytes = Vec::new();
    while let Some(part) = call.part().await? {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(bytes.len(), 3 * 15);
    assert_eq!(call.trailers().await?.get("grpc-status"), Some("0"));
    let mut plain = H1Client::connect(world.http()).await?;
    assert_eq!(plain.get("/x", "a", &[]).await?.status, 426);
    Ok(())
}

#[tokio::test]
async fn websockets_pass() -> Result<()> {
    let echo = EchoServer::start("ws").await;
    let world = World::start(plugins(), &file(&echo.url(), ""), &[])?;
    let client = H1Client::connect(world.http()).await?;
    let mut socket = WebSocket::open(client, "/api/ws", "a", &[]).await?;
    for n in 0..10 {
        socket.send_text(&format!("hello {n}")).await?;
        let frame = socket.next().await?.expect("a frame");
        assert_eq!(frame.payload, format!("hello {n}").as_bytes());
    }
    Ok(())
}
