//! Accepted and rejected input, for both HTTP versions: hosts, schemes, field values, upgrades, line ends, TLS.

mod alerts;
mod grpc;
mod line_ends;
mod upgrades;

use anyhow::{Context as _, Result};
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, ScriptedPeer, Socket, Step, World};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::plugins;
use crate::scene::{one, sent};
use crate::smuggling::h2::{Frames, block};

/// First byte of a response's header block in HTTP/2: an indexed `:status`.
const OK: u8 = 0x88;
const BAD_REQUEST: u8 = 0x8c;

const INVALID_HOSTS: &str = "x:80:80 x:99999 x:65536 [::1 ::1] ::1 [::1]x [::1]:80:80 [::1%25eth0] [1.2.3.4] [v1] <x> \
    x\"y x:abc x/y u@x x,y x^y x%zz .x x..y . x{y} xé x\\y";

const VALID_HOSTS: [(&str, &str); 9] = [
    ("x", "x"),
    ("a_b.c", "a_b.c"),
    ("x.", "x."),
    ("x:", "x"),
    ("X:80", "x"),
    ("1.2.3.4:8", "1.2.3.4"),
    ("[::1]", "[::1]"),
    ("[::1]:80", "[::1]"),
    ("x%2dy", "x%2dy"),
];

#[tokio::test]
async fn hosts_are_read_alike_in_every_place() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    let mut wrong = Vec::new();
    let mut ask = async |text: String, host: &str, expect: u16| -> Result<()> {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(&text).await?;
        let response = client.response().await.with_context(|| text.clone())?;
        let closes = response.header("connection") == Some("close");
        if response.status != expect || (expect == 400 && !closes) {
            wrong.push(format!("{text:?}: {}", response.status));
        }
        if expect == 200 && response.status == 200 && sent(&response.json(), "x-forwarded-host") != host {
            wrong.push(format!("{text:?}: {}", sent(&response.json(), "x-forwarded-host")));
        }
        Ok(())
    };
    for host in INVALID_HOSTS.split_whitespace().chain(["x y"]) {
        ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), host, 400).await?;
        ask(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"), host, 400).await?;
        ask(format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"), host, 400).await.or_else(|error| {
            // The authority of this one ends at the slash, and the rest is a path.
            if host == "x/y" { Ok(()) } else { Err(error) }
        })?;
        ask(format!("GET http://a/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), host, 400).await?;
    }
    for (host, name) in VALID_HOSTS {
        ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), name, 200).await?;
        ask(format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"), name, 200).await?;
    }
    for host in ["", "\u{7f}", "\u{1}"] {
        ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), host, 400).await?;
    }
    wrong.retain(|line| !line.contains("http://x/y/"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The first byte of the response's header block; `None` if the stream is reset or the connection ends.
async fn h2(world: &World, fields: &[(&str, &str)]) -> Result<Option<u8>> {
    let mut frames = Frames::open(world.http()).await?;
    frames.headers(1, &block(fields), true).await?;
    frames.one().await
}

fn request<'x>(scheme: &'x str, authority: Option<&'x str>, more: &[(&'x str, &'x str)]) -> Vec<(&'x str, &'x str)> {
    let mut fields = vec![(":method", "GET"), (":scheme", scheme), (":path", "/")];
    fields.extend(authority.map(|authority| (":authority", authority)));
    fields.extend_from_slice(more);
    fields
}

#[tokio::test]
async fn hosts_of_http2() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    for host in INVALID_HOSTS.split_whitespace().chain(["x y"]) {
        assert_eq!(h2(&world, &request("http", Some(host), &[])).await?, Some(BAD_REQUEST), ":authority {host}");
        assert_eq!(h2(&world, &request("http", None, &[("host", host)])).await?, Some(BAD_REQUEST), "host {host}");
    }
    for (host, _) in VALID_HOSTS {
        assert_eq!(h2(&world, &request("http", Some(host), &[])).await?, Some(OK), ":authority {host}");
        assert_eq!(h2(&world, &request("http", None, &[("host", host)])).await?, Some(OK), "host {host}");
    }
    for (hosts, expect) in [
        (&["a"][..], OK),
        (&["A"], OK),
        (&["b"], BAD_REQUEST),
        (&["a", "a"], BAD_REQUEST),
        (&["a", "b"], BAD_REQUEST),
        (&["b", "a"], BAD_REQUEST),
        (&["a:80"], BAD_REQUEST),
        (&[""], BAD_REQUEST),
    ] {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        assert_eq!(h2(&world, &request("http", Some("a"), &fields)).await?, Some(expect), "{hosts:?}");
        if hosts.len() > 1 {
            assert_eq!(h2(&world, &request("http", None, &fields)).await?, Some(BAD_REQUEST), "{hosts:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn schemes_are_those_of_the_connection() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let yaml = one(&echo.url(), json!({}), json!({}));
    let world = World::start(plugins(), &yaml, &[])?;
    for (scheme, expect) in [
        ("http", OK),
        ("HTTP", OK),
        ("https", BAD_REQUEST),
        ("ftp", BAD_REQUEST),
        ("wss", BAD_REQUEST),
        ("h", BAD_REQUEST),
    ] {
        assert_eq!(h2(&world, &request(scheme, Some("a"), &[])).await?, Some(expect), "{scheme}");
    }
    for scheme in ["", "1http", "http:", "ht tp"] {
        assert_eq!(h2(&world, &request(scheme, Some("a"), &[])).await?, None, "{scheme:?} is malformed");
    }
    for (target, expect) in [("http://a/", 200), ("https://a/", 400), ("ftp://a/", 400), ("wss://a/", 400)] {
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get(target, "a", &[]).await?.status, expect, "{target}");
    }
    // A trusted proxy may have terminated the client's TLS.
    let world = World::start(plugins(), &yaml, &[("trusted_ips", "127.0.0.1")])?;
    assert_eq!(h2(&world, &request("https", Some("a"), &[])).await?, Some(OK));
    assert_eq!(h2(&world, &request("ftp", Some("a"), &[])).await?, Some(BAD_REQUEST));
    assert_eq!(H1Client::connect(world.http()).await?.get("https://a/", "a", &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn padded_values_are_malformed_in_http2() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &one(&echo.url(), json!({}), json!({})), &[])?;
    let padded = ["v ", " v", "\tv", "v\t", " ", "\t"];
    for name in ["x", "cookie", "host", "content-type", "te", "user-agent", "content-length"] {
        for value in padded {
            let outcome = h2(&world, &request("http", None, &[("host", "a"), (name, value)])).await?;
            assert_eq!(outcome, None, "{name}: {value:?}");
        }
    }
    for name in [":path", ":authority", ":method", ":scheme"] {
        let fields: Vec<(&str, String)> = request("http", Some("a"), &[])
            .into_iter()
            .map(|(n, v)| (n, if n == name { format!("{v} ") } else { v.to_owned() }))
            .collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(h2(&world, &fields).await?, None, "{name}");
    }
    for value in padded {
        let mut frames = Frames::open(world.http()).await?;
        frames.headers(1, &block(&request("http", Some("a"), &[])), false).await?;
        frames.headers(1, &block(&[("x-trailer", value)]), true).await?;
        assert_eq!(frames.one().await?, None, "a trailer {value:?}");
    }
    assert_eq!(h2(&world, &request("http", Some("a"), &[("x", "a b"), ("y", "")])).await?, Some(OK));
    Ok(())
}

/// SETTINGS, and a response with these fields and trailers on the first stream.
fn h2_response(fields: &[(&str, &str)], trailers: &[(&str, &str)]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut out = frame(4, 0, 0, &[]);
    out.extend(frame(1, if trailers.is_empty() { 5 } else { 4 }, 1, &block(fields)));
    if !trailers.is_empty() {
        out.extend(frame(1, 5, 1, &block(trailers)));
    }
    out
}

#[tokio::test]
async fn padded_values_of_an_http2_upstream_are_malformed() -> Result<()> {
    for (fields, trailers, expect) in [
        (&[(":status", "200"), ("x", "v")][..], &[][..], 200),
        (&[(":status", "200"), ("x", "v ")], &[], 502),
        (&[(":status", "200"), ("x", "\tv")], &[], 502),
        (&[(":status", "200 ")], &[], 502),
        (&[(":status", "200"), ("set-cookie", " a=1")], &[], 502),
    ] {
        let play = vec![Step::until("SM\r\n\r\n"), Step::Send(h2_response(fields, trailers)), Step::Drain];
        let peer = ScriptedPeer::start(vec![play]).await;
        let service = json!({ "tags": ["upstream-http2"], "retries": 0 });
        let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), service, json!({})), &[])?;
        let status = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.status;
        assert_eq!(status, expect, "{fields:?}");
    }
    // The response is cut short after its head.
    let answer = h2_response(&[(":status", "200")], &[("x-trailer", "v ")]);
    let peer = ScriptedPeer::start(vec![vec![Step::until("SM\r\n\r\n"), Step::Send(answer), Step::Drain]]).await;
    let service = json!({ "tags": ["upstream-http2"], "retries": 0 });
    let world = World::start(plugins(), &one(&format!("http://{}", peer.address()), service, json!({})), &[])?;
    let outcome = H1Client::connect(world.http()).await?.get("/", "a", &[]).await;
    assert!(outcome.as_ref().map_or(true, |response| response.status == 502), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn over_tls_the_version_is_that_of_alpn() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("root");
    let issued = authority.issue(&["localhost"]);
    let mut file: serde_json::Value = serde_json::from_str(&one(&echo.url(), json!({}), json!({})))?;
    file["certificates"] = json!([crate::scene::certificate(&issued, &["localhost"])]);
    let world = World::start(plugins(), &file.to_string(), &[])?;
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for alpn in [&["http/1.1"][..], &[]] {
        let config = authority.client(None, alpn);
        let mut client = H1Client::connect_tls(world.https(), "localhost", config).await?;
        client.send(PREFACE).await?;
        let refused = client.response().await?;
        assert_eq!((refused.status, refused.header("connection")), (505, Some("close")), "{alpn:?}");
        let mut client = H1Client::connect_tls(world.https(), "localhost", authority.client(None, alpn)).await?;
        assert_eq!(client.get("/", "localhost", &[]).await?.status, 200, "{alpn:?}");
    }
    // The reverse: HTTP/1.1 on a connection that negotiated HTTP/2 receives at most a GOAWAY, and no response.
    let socket = Socket::connect(world.https()).await?.start_tls("localhost", authority.client(None, &["h2"])).await?;
    assert_eq!(socket.alpn(), Some(b"h2".as_slice()));
    let mut client = H1Client::over(socket);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let (mut socket, mut answer) = client.into_socket();
    // It is irrelevant how the connection ends.
    let _end = socket.read_to_end(&mut answer).await;
    assert!(!answer.windows(8).any(|bytes| bytes == b"HTTP/1.1"), "{}", answer.escape_ascii());
    let mut h2 = H2Client::connect_tls(world.https(), "localhost", authority.client(None, &["h2"])).await?;
    assert_eq!(h2.request("GET", "localhost", "/", &[], b"").await?.status, 200);
    // In clear text, HTTP/2 by prior knowledge is accepted.
    assert_eq!(H2Client::connect(world.http()).await?.request("GET", "a", "/", &[], b"").await?.status, 200);
    assert_eq!(echo.seen().len(), 4);
    Ok(())
}
