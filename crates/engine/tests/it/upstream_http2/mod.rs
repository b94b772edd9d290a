//! HTTP/2 upstreams, including gRPC.

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use bytes::Bytes;
use cardinal_testkit::{Authority, EchoServer, H1Client, H2Client, World, frame, free_port, unframe};
use futures_util::future::try_join_all;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::plugins;
use crate::scene::{JSON, merged, one, outcome, sent, sent_all};
pub(crate) use server::{Exchange, Server};

/// A file for an HTTP/2 upstream.
fn tagged(url: &str) -> String {
    one(url, json!({ "tags": ["upstream-http2"], "retries": 0 }), json!({}))
}

/// A file for a gRPC upstream.
fn grpc(url: &str, protocols: Value) -> String {
    one(url, json!({ "retries": 0 }), json!({ "protocols": protocols }))
}

fn pattern(len: usize) -> Vec<u8> {
    b"0123456789abcdef".iter().copied().cycle().take(len).collect()
}

#[tokio::test]
async fn a_tag_asks_for_http2() -> Result<()> {
    let authority = Authority::new("root");
    let issued = authority.issue(&["localhost"]);
    let clear = EchoServer::start("clear").await;
    let both = EchoServer::start_tls("both", authority.server(&issued, &["h2", "http/1.1"], false)).await;
    let old = EchoServer::start_tls("old", authority.server(&issued, &["http/1.1"], false)).await;
    for (echo, tags, version) in [
        (&clear, json!(["upstream-http2"]), "2"),
        (&clear, json!(["other"]), "1.1"),
        (&both, json!(["upstream-http2"]), "2"),
        (&both, json!([]), "1.1"),
        (&old, json!(["upstream-http2"]), "1.1"),
    ] {
        let world = World::start(plugins(), &one(&echo.url(), json!({ "tags": tags }), json!({})), &[])?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        for _ in 0..2 {
            let seen = h1.get("/a%20b?q=%20", "client.test", &[("X-Mine", "1"), ("TE", "trailers")]).await?.json();
            assert_eq!(seen["version"], version, "{tags} {}", echo.url());
            assert_eq!((seen["target"].as_str(), sent(&seen, "x-mine").as_str()), (Some("/a%20b?q=%20"), "1"));
            assert_eq!(seen["authority"], echo.address().to_string());
            assert_eq!(
                (sent(&seen, "te").as_str(), sent(&seen, "x-forwarded-host").as_str()),
                ("trailers", "client.test")
            );
            assert_eq!(sent_all(&seen, "connection").is_empty(), version == "2");
            let seen =
                h2.request("GET", "client.test", "/x", &[("cookie", "a=1"), ("cookie", "b=2")], b"").await?.json();
            assert_eq!(
                (&seen["version"], sent_all(&seen, "cookie").join("; ")),
                (&json!(version), "a=1; b=2".to_owned())
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn large_bodies_go_both_ways() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &tagged(&echo.url()), &[])?;
    let large = pattern(3_000_000);
    let mut h1 = H1Client::connect(world.http()).await?;
    let mut h2 = H2Client::connect(world.http()).await?;
    for _ in 0..2 {
        let up = h1.request("POST", "/", "a", &[], &large).await?.json();
        assert_eq!(up["body"]["bytes"], 3_000_000);
        let again = h2.request("POST", "a", "/", &[], &large).await?.json();
        assert_eq!(again["body"]["sha256"], up["body"]["sha256"]);
        assert_eq!(h1.get("/", "a", &[("X-Echo", "bytes:3000000")]).await?.body, large);
        assert_eq!(h2.request("GET", "a", "/", &[("x-echo", "bytes:3000000")], b"").await?.body, large);
    }
    // Data is echoed while more is being sent.
    let mut exchange = h2.open("POST", "a", "/", &[("x-echo", "body:echo")], false).await?;
    let mut back = Vec::new();
    for (round, part) in large.chunks(100_000).enumerate() {
        exchange.send(part, false).await?;
        if round == 0 {
            assert_eq!(exchange.head().await?.0, 200);
        }
        while back.len() < (round + 1) * 100_000 {
            back.extend_from_slice(&exchange.part().await?.unwrap_or_default());
        }
    }
    exchange.send(b"", true).await?;
    while let Some(part) = exchange.part().await? {
        back.extend_from_slice(&part);
    }
    assert!(back == large, "what came back is not what was sent");
    Ok(())
}

#[tokio::test]
async fn trailers_go_both_ways() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &tagged(&echo.url()), &[("request_trailers", "x-t")])?;
    let mut h1 = H1Client::connect(world.http()).await?;
    h1.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n")
        .await?;
    let seen = h1.response().await?.json();
    assert_eq!((&seen["body"]["text"], &seen["trailers"]), (&json!("hello"), &json!([["x-t", "1"]])));
    let response = h1.get("/", "a", &[("X-Echo", "bytes:10,trailers"), ("TE", "trailers")]).await?;
    assert_eq!((response.body.len(), response.trailers.get("x-trailer")), (10, Some("end")));
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut exchange = h2.open("POST", "a", "/", &[("x-echo", "trailers")], false).await?;
    exchange.send(b"hello", false).await?;
    exchange.send_trailers(&[("x-t", "2")])?;
    let response = exchange.response().await?;
    assert_eq!(response.json()["trailers"], json!([["x-t", "2"]]));
    assert_eq!(response.trailers.get("x-trailer"), Some("end"));
    Ok(())
}

#[tokio::test]
async fn streams_share_connections() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &tagged(&echo.url()), &[])?;
    let mut tasks = Vec::new();
    for connection in 0..4 {
        let mut client = H2Client::connect(world.http()).await?;
        tasks.push(async move {
            let mut open = Vec::new();
            for stream in 0..60 {
                let path = format!("/{connection}/{stream}");
                let fields = [("x-echo", "body:echo")];
                open.push((path.clone(), client.open("POST", "a", &path, &fields, false).await?));
            }
            for (path, exchange) in &mut open {
                exchange.send(path.as_bytes(), true).await?;
            }
            for (path, mut exchange) in open.into_iter().rev() {
                ensure!(exchange.response().await?.text() == path);
            }
            Ok(())
        });
    }
    try_join_all(tasks).await?;
    assert_eq!(echo.requests(), 240);
    assert!(echo.connections() <= 8, "240 streams at once took {} connections", echo.connections());
    assert!(echo.failures().is_empty(), "{:?}", echo.failures());
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_says_goodbye_is_connected_to_anew() -> Result<()> {
    // Each connection serves two requests and then sends GOAWAY, with the first one in progress.
    let (arrived, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, gate) = (Arc::clone(&arrived), Arc::clone(&may_answer));
    let server = Server::start(Some(2), move |exchange| {
        let (seen, gate) = (Arc::clone(&seen), Arc::clone(&gate));
        async move {
            if exchange.path() == "/slow" {
                seen.fetch_add(1, Ordering::SeqCst);
                drop(gate.acquire().await?);
            }
            exchange.answer(200, b"done").await
        }
    })
    .await;
    let world = World::start(plugins(), &tagged(&server.url()), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut slow = Vec::new();
    for number in 1..=3 {
        slow.push(client.open("GET", "a", "/slow", &[], true).await?);
        cardinal_testkit::until("the request to arrive", || arrived.load(Ordering::SeqCst) == number).await?;
        let quick = client.request("GET", "a", "/", &[], b"").await?;
        assert_eq!((quick.status, quick.text().as_str()), (200, "done"));
    }
    may_answer.add_permits(3);
    for exchange in &mut slow {
        let response = exchange.response().await?;
        assert_eq!((response.status, response.text().as_str()), (200, "done"));
    }
    assert_eq!(server.connections(), 3);
    Ok(())
}

#[tokio::test]
async fn who_waits_for_a_connection_that_fails_is_answered() -> Result<()> {
    let world = World::start(plugins(), &tagged(&format!("http://127.0.0.1:{}", free_port())), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(client.open("GET", "a", "/", &[], true).await?);
    }
    for exchange in &mut open {
        assert_eq!(exchange.response().await?.status, 502);
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_ends_the_request_and_no_other() -> Result<()> {
    let (half, whole) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gates = (Arc::clone(&half), Arc::clone(&whole));
    let server = Server::start(None, move |mut exchange: Exchange| {
        let (half, whole) = gates.clone();
        async move {
            match exchange.path().as_str() {
                "/before" => exchange.reset(Reason::INTERNAL_ERROR),
                "/within" => {
                    let mut send = exchange.respond(Response::builder().status(200), false)?;
                    send.send_data(Bytes::from_static(b"half"), false)?;
                    half.acquire().await?.forget();
                    send.send_reset(Reason::INTERNAL_ERROR);
                }
                "/at-once" => {
                    let mut send = exchange.respond(Response::builder().status(200), false)?;
                    send.send_data(Bytes::from_static(b"half"), false)?;
                    send.send_reset(Reason::INTERNAL_ERROR);
                }
                _ => {
                    drop(whole.acquire().await?);
                    return exchange.answer(200, b"fine").await;
                }
            }
            Ok(())
        }
    })
    .await;
    let world = World::start(plugins(), &tagged(&server.url()), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut fine = client.open("GET", "a", "/fine", &[], true).await?;
    let before = client.request("GET", "a", "/before", &[JSON], b"").await?;
    let expect = "An invalid response was received from the upstream server";
    assert_eq!(outcome(&before), (502, expect.to_owned()));
    let mut within = client.open("GET", "a", "/within", &[], true).await?;
    assert_eq!(within.head().await?.0, 200);
    half.add_permits(1);
    assert!(within.response().await.is_err(), "a cut response is no response");
    whole.add_permits(1);
    assert_eq!(fine.response().await?.text(), "fine");
    let mut h1 = H1Client::connect(world.http()).await?;
    // A response may still be replaced as long as nothing of it has been sent.
    assert!(h1.get("/at-once", "a", &[]).await.map_or(true, |response| response.status == 502));
    assert!(server.connections() <= 2, "a reset of a stream leaves the connection: {}", server.connections());
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_refused_is_tried_again() -> Result<()> {
    let server = Server::start(None, |mut exchange: Exchange| async move {
        if exchange.number() == 1 {
            exchange.reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        exchange.answer(200, b"second").await
    })
    .await;
    let yaml = one(&server.url(), json!({ "tags": ["upstream-http2"], "retries": 1 }), json!({}));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.text(), "second");
    Ok(())
}

#[tokio::test]
async fn a_client_that_resets_is_heard_upstream() -> Result<()> {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let server = Server::start(None, move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            let mut send = exchange.respond(Response::builder().status(200), false)?;
            let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await?;
            told.send(reason).await?;
            Ok(())
        }
    })
    .await;
    let world = World::start(plugins(), &tagged(&server.url()), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut exchange = client.open("POST", "a", "/", &[], false).await?;
    assert_eq!(exchange.head().await?.0, 200);
    exchange.reset();
    let reason = cardinal_testkit::within("a reset", heard.recv()).await?;
    assert_eq!(reason, Some(Reason::CANCEL));
    Ok(())
}

#[tokio::test]
async fn grpc_calls_of_all_four_kinds() -> Result<()> {
    let echo = EchoServer::start("grpc").await;
    let url = echo.url().replace("http://", "grpc://");
    let world = World::start(plugins(), &grpc(&url, json!(["grpc", "grpcs"])), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let unary = client.grpc("a", "/pkg.S/Unary", &[("x-mine", "1")], &[b"one"]).await?;
    assert_eq!((unary.status, unary.messages), (0, vec![b"one".to_vec()]));
    let streamed = client.grpc("a", "/pkg.S/ClientStream", &[], &[b"one", b"", &[7; 100_000]]).await?;
    assert_eq!((streamed.status, streamed.messages.len(), streamed.messages[2].len()), (0, 3, 100_000));
    let mut bidi = client
        .open("POST", "a", "/pkg.S/Bidi", &[("content-type", "application/grpc"), ("te", "trailers")], false)
        .await?;
    for n in 0..5_u8 {
        bidi.send(&frame(&[n; 10]), false).await?;
        if n == 0 {
            assert_eq!(bidi.head().await?.0, 200);
        }
        let part = bidi.part().await?.unwrap_or_default();
        assert_eq!(unframe(&part)?, [vec![n; 10]], "each answer comes before the next question");
    }
    bidi.send(b"", true).await?;
    assert_eq!(bidi.part().await?, None);
    assert_eq!(bidi.trailers().await?.get("grpc-status"), Some("0"));
    let seen = &echo.seen()[0];
    assert_eq!((seen.version, seen.path.as_str(), seen.headers.get("x-mine")), ("2", "/pkg.S/Unary", Some("1")));
    assert_eq!(seen.headers.get("te"), Some("trailers"));

    let server = Server::start(None, |mut exchange: Exchange| async move {
        let question = exchange.body().await?;
        ensure!(unframe(&question)? == [b"many".to_vec()]);
        let mut send = exchange.respond(Response::builder().header("content-type", "application/grpc"), false)?;
        for n in 0..3_u8 {
            send.send_data(frame(&[n]).into(), false)?;
            tokio::task::yield_now().await;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        send.send_trailers(trailers)?;
        Ok(())
    })
    .await;
    let world = World::start(plugins(), &grpc(&server.url().replace("http://", "grpc://"), json!(["grpc"])), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let answers = client.grpc("a", "/pkg.S/ServerStream", &[], &[b"many"]).await?;
    assert_eq!((answers.status, answers.messages), (0, vec![vec![0], vec![1], vec![2]]));
    Ok(())
}

#[tokio::test]
async fn grpc_errors_arrive_as_they_are() -> Result<()> {
    let server = Server::start(None, |mut exchange: Exchange| async move {
        let head = Response::builder().header("content-type", "application/grpc");
        if exchange.path() == "/pkg.S/Bare" {
            exchange.respond(head.header("grpc-status", "5").header("grpc-message", "no%20such"), true)?;
            return Ok(());
        }
        let mut send = exchange.respond(head, false)?;
        send.send_data(frame(b"half").into(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
        trailers.insert("x-detail-bin", HeaderValue::from_static("AAEC"));
        send.send_trailers(trailers)?;
        Ok(())
    })
    .await;
    let yaml = grpc(&server.url().replace("http://", "grpc://"), json!(["grpc"]));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    let fields = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    let mut bare = client.open("POST", "a", "/pkg.S/Bare", &fields, false).await?;
    bare.send(&frame(b"x"), true).await?;
    let (status, head) = bare.head().await?;
    assert_eq!((status, head.get("grpc-status"), head.get("grpc-message")), (200, Some("5"), Some("no%20such")));
    assert!(bare.is_ended(), "a response of trailers only ends with its one head");
    let late = client.grpc("a", "/pkg.S/Late", &[], &[b"x"]).await?;
    assert_eq!(
        (late.status, late.messages, late.trailers.get("x-detail-bin")),
        (13, vec![b"half".to_vec()], Some("AAEC"))
    );
    drop(server);

    // Local replies to gRPC clients.
    let down = World::start(plugins(), &grpc(&format!("grpc://127.0.0.1:{}", free_port()), json!(["grpc"])), &[])?;
    let mut client = H2Client::connect(down.http()).await?;
    let mut call = client.open("POST", "a", "/pkg.S/Down", &fields, false).await?;
    call.send(&frame(b"x"), true).await?;
    let (status, head) = call.head().await?;
    assert_eq!(
        (status, head.get("grpc-status"), head.get("content-type")),
        (502, Some("13"), Some("application/grpc"))
    );
    let secure = World::start(plugins(), &grpc("grpcs://127.0.0.1:1", json!(["grpcs"])), &[])?;
    let refused = H2Client::connect(secure.http()).await?.grpc("a", "/pkg.S/M", &[], &[b"x"]).await?;
    assert_eq!((refused.status, refused.message.as_deref()), (1, Some("gRPC request matched gRPCs route")));
    let plain = H2Client::connect(secure.http()).await?.request("GET", "a", "/", &[], b"").await?;
    assert_eq!(outcome(&plain), (415, "Non-gRPC request matched gRPC route".to_owned()));
    Ok(())
}

#[tokio::test]
async fn grpc_over_tls() -> Result<()> {
    let authority = Authority::new("root");
    let issued = authority.issue(&["localhost"]);
    let echo = EchoServer::start_tls("grpcs", authority.server(&issued, &["h2"], false)).await;
    let ca = "c5d5d4ee-2b5f-4b9c-a1c8-0d4a3f1b8f01";
    let tables = json!({
        "certificates": [crate::scene::certificate(&issued, &["localhost"])],
        "ca_certificates": [{ "id": ca, "cert": authority.cert_pem() }],
        "services": [crate::scene::service_of(
            &format!("grpcs://localhost:{}", echo.address().port()),
            json!({}),
            json!({ "protocols": ["grpcs"] }),
        )],
    });
    let world = World::start(plugins(), &crate::scene::file(merged(tables, json!({}))), &[])?;
    let mut client = H2Client::connect_tls(world.https(), "localhost", authority.client(None, &["h2"])).await?;
    let reply = client.grpc("localhost", "/pkg.S/M", &[], &[b"one", b"two"]).await?;
    assert_eq!((reply.status, reply.messages), (0, vec![b"one".to_vec(), b"two".to_vec()]));
    assert_eq!(echo.seen()[0].sni.as_deref(), Some("localhost"));
    Ok(())
}
