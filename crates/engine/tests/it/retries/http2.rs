//! HTTP/2 upstreams: streams that are refused, reset or late, and gRPC.

use anyhow::Result;
use cardinal_ir::HttpVersion;
use cardinal_ir::policy::{GrpcCode, Retry, RetryCondition as On, RetryMethods};
use cardinal_testkit::{GrpcReply, H1Client, H2Client, World, frame};
use h2::Reason;
use http::Response;

use super::{retried, retry, set, world};
use crate::upstream_http2::{Exchange, Server};

fn h2_world(server: &Server, retry: Retry) -> Result<World> {
    let set = set(retry);
    world(server.address(), move |backend| {
        backend.http = Some(HttpVersion::H2);
        set(backend);
    })
}

/// The response to the first request of each pair; the second one succeeds.
#[derive(Clone, Copy, Debug)]
enum First {
    Reset(Reason),
    Status(u16),
    Silence,
}

async fn pairs(first: First) -> Server {
    Server::start(None, move |mut exchange: Exchange| async move {
        if exchange.number().is_multiple_of(2) {
            return exchange.answer(200, b"ok").await;
        }
        match first {
            First::Reset(reason) => exchange.reset(reason),
            First::Status(status) => return exchange.answer(status, b"first").await,
            First::Silence => std::future::pending().await,
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_condition_makes_a_stream_be_opened_again() -> Result<()> {
    let per_try = Retry { per_try_timeout_ms: 100, ..retry(1, &[On::PerTryTimeout]) };
    for (retry, first, method, reason) in [
        (retry(1, &[On::RefusedStream]), First::Reset(Reason::REFUSED_STREAM), "POST", "refused_stream"),
        (retry(1, &[On::ResetBeforeRequest]), First::Reset(Reason::REFUSED_STREAM), "POST", "refused_stream"),
        (retry(1, &[On::Reset]), First::Reset(Reason::REFUSED_STREAM), "POST", "refused_stream"),
        (retry(1, &[On::Reset]), First::Reset(Reason::CANCEL), "GET", "reset"),
        (retry(1, &[On::GatewayError]), First::Status(503), "GET", "status"),
        (per_try, First::Silence, "GET", "per_try_timeout"),
    ] {
        let server = pairs(first).await;
        let world = h2_world(&server, retry.clone())?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        assert_eq!(h1.request(method, "/", "a", &[], b"").await?.text(), "ok", "{retry:?} {first:?}");
        assert_eq!(h2.request(method, "a", "/", &[], b"").await?.text(), "ok", "{retry:?} {first:?}");
        assert_eq!(retried(world.engine(), reason), 2, "{retry:?} {first:?}");
    }
    for (retry, first, status) in [
        (retry(1, &[On::RefusedStream]), First::Reset(Reason::CANCEL), 502),
        (retry(1, &[On::ConnectFailure, On::GatewayError]), First::Reset(Reason::REFUSED_STREAM), 502),
        (retry(1, &[On::Reset]), First::Status(503), 503),
    ] {
        let server = pairs(first).await;
        let world = h2_world(&server, retry.clone())?;
        let mut client = H2Client::connect(world.http()).await?;
        assert_eq!(client.request("GET", "a", "/", &[], b"").await?.status, status, "{retry:?} {first:?}");
    }
    Ok(())
}

/// A gRPC server whose first answers have only trailers, with this status.
async fn grpc_server(status: &'static str, bad: u64) -> Server {
    Server::start(None, move |mut exchange: Exchange| async move {
        let question = exchange.body().await?;
        let head = Response::builder().header("content-type", "application/grpc");
        if exchange.number() <= bad {
            exchange.respond(head.header("grpc-status", status).header("grpc-message", "first"), true)?;
            return Ok(());
        }
        let mut send = exchange.respond(head, false)?;
        send.send_data(question.into(), false)?;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        send.send_trailers(trailers)?;
        Ok(())
    })
    .await
}

async fn call(world: &World, message: &[u8]) -> Result<GrpcReply> {
    H2Client::connect(world.http()).await?.grpc("a", "/pkg.S/Call", &[], &[message]).await
}

#[tokio::test]
async fn calls_are_repeated_by_the_status_of_grpc() -> Result<()> {
    let policy = |code| Retry { methods: RetryMethods::Any, ..retry(2, &[On::Grpc(code)]) };
    for (code, status) in [
        (GrpcCode::Cancelled, "1"),
        (GrpcCode::DeadlineExceeded, "4"),
        (GrpcCode::ResourceExhausted, "8"),
        (GrpcCode::Internal, "13"),
        (GrpcCode::Unavailable, "14"),
    ] {
        let server = grpc_server(status, 2).await;
        let world = h2_world(&server, policy(code))?;
        let reply = call(&world, b"question").await?;
        assert_eq!((reply.status, reply.messages), (0, vec![b"question".to_vec()]), "{code:?}");
        assert_eq!(retried(world.engine(), "grpc_status"), 2, "{code:?}");
    }
    // Another status, more failures than attempts, and a message that is too long to keep.
    for (status, bad, size, expect) in [("5", 1, 8, 5), ("14", 3, 8, 14), ("14", 1, 100_000, 14)] {
        let server = grpc_server(status, bad).await;
        let world = h2_world(&server, policy(GrpcCode::Unavailable))?;
        let reply = call(&world, &vec![b'x'; size]).await?;
        assert_eq!((reply.status, reply.message.as_deref()), (expect, Some("first")), "{status} {bad} {size}");
    }
    Ok(())
}

/// A streaming call is not buffered: its data is forwarded as it arrives, and is sent again.
#[tokio::test]
async fn a_streaming_call_is_repeated_while_it_is_under_way() -> Result<()> {
    let server = Server::start(None, |mut exchange: Exchange| async move {
        let head = Response::builder().header("content-type", "application/grpc");
        if exchange.number() == 1 {
            exchange.respond(head.header("grpc-status", "14"), true)?;
            return Ok(());
        }
        let mut send = exchange.respond(head, false)?;
        let question = exchange.body().await?;
        send.send_data(question.into(), true)?;
        Ok(())
    })
    .await;
    let policy = Retry { methods: RetryMethods::Any, ..retry(1, &[On::Grpc(GrpcCode::Unavailable)]) };
    let world = h2_world(&server, policy)?;
    let mut client = H2Client::connect(world.http()).await?;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut call = client.open("POST", "a", "/pkg.S/Bidi", &fields, false).await?;
    call.send(&frame(b"one"), false).await?;
    assert_eq!(call.head().await?.0, 200, "the second answer, while the client still sends");
    call.send(&frame(b"two"), true).await?;
    let mut answer = Vec::new();
    while let Some(part) = call.part().await? {
        answer.extend_from_slice(&part);
    }
    assert_eq!(answer, [frame(b"one"), frame(b"two")].concat());
    Ok(())
}
