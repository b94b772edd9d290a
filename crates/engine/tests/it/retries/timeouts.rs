//! Timeouts of a whole request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use cardinal_base::SystemClock;
use cardinal_ir::policy::{Retry, RetryCondition as On, RoutePolicies, TimeoutOverrides};
use cardinal_ir::{HttpVersion, Timeouts};
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Step, WebSocket, World, frame};
use serde_json::json;

use super::{by_headers, changed, elapsed, failed, limited, play, retried, retry, silent, world};
use crate::plugins;
use crate::scene::{JSON, eventually, one};
use crate::upstream_http2::{Exchange, Server};

/// A world whose backend has these timeouts.
fn timed(address: SocketAddr, timeouts: Timeouts, retry: Option<Retry>) -> Result<World> {
    world(address, move |backend| {
        backend.timeouts = timeouts;
        backend.retry = retry.clone().map(Into::into);
    })
}

fn request(request_ms: u64) -> Timeouts {
    Timeouts { request_ms, ..Timeouts::default() }
}

fn idle(idle_ms: u64) -> Timeouts {
    Timeouts { idle_ms, ..Timeouts::default() }
}

fn stream(stream_ms: u64) -> Timeouts {
    Timeouts { stream_ms, ..Timeouts::default() }
}

/// A response that is sent byte by byte, for longer than the tests wait.
fn trickle() -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    vec![Step::until("\r\n\r\n"), Step::send(head), Step::Trickle(vec![b'x'; 1_000], Duration::from_millis(20))]
}

/// A response that stops in the middle.
fn stalled() -> Vec<Step> {
    vec![Step::until("\r\n\r\n"), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello"), Step::Drain]
}

#[tokio::test]
async fn an_upstream_that_does_not_respond_is_given_up() -> Result<()> {
    let per_try = Retry { per_try_timeout_ms: 100, ..retry(1, &[]) };
    let per_try_idle = Retry { per_try_idle_timeout_ms: 100, ..retry(1, &[]) };
    for (timeouts, retry) in [
        (request(100), None),
        (idle(100), None),
        (stream(100), None),
        (Timeouts::default(), Some(per_try)),
        (Timeouts::default(), Some(per_try_idle)),
    ] {
        let peer = ScriptedPeer::start(vec![silent()]).await;
        let world = timed(peer.address(), timeouts, retry)?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let response = h1.get("/", "a", &[JSON]).await?;
        let message = "The upstream server is timing out";
        assert_eq!((response.status, response.json()["message"].as_str()), (504, Some(message)), "{timeouts:?}");
        let mut h2 = H2Client::connect(world.http()).await?;
        assert_eq!(h2.request("GET", "a", "/", &[], b"").await?.status, 504, "{timeouts:?}");
        assert_eq!(h1.get("/", "a", &[]).await?.status, 504, "the client's connection goes on");
        assert_eq!(failed(world.engine(), "upstream_timeout"), 3);
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_given_up_has_exceeded_its_deadline() -> Result<()> {
    let server = Server::start(None, |exchange: Exchange| async move {
        std::future::pending::<()>().await;
        exchange.answer(200, b"").await
    })
    .await;
    let world = world(server.address(), |backend| {
        (backend.http, backend.timeouts) = (Some(HttpVersion::H2), request(100));
    })?;
    let mut client = H2Client::connect(world.http()).await?;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let reply = client.request("POST", "a", "/pkg.S/Call", &fields, &frame(b"x")).await?;
    let of_grpc = (reply.header("grpc-status"), reply.header("grpc-message"));
    assert_eq!((reply.status, of_grpc), (504, (Some("4"), Some("The upstream server is timing out"))));
    Ok(())
}

/// After the response head, the status cannot change: the response is cut short.
#[tokio::test]
async fn a_response_that_is_not_complete_in_time_is_cut() -> Result<()> {
    let per_try = Retry { per_try_timeout_ms: 300, ..retry(3, &[On::PerTryTimeout, On::Timeout]) };
    for (timeouts, retry, steps) in [
        (request(300), None, trickle()),
        (stream(300), None, trickle()),
        (Timeouts::default(), Some(per_try), trickle()),
        (idle(300), None, stalled()),
    ] {
        let peer = ScriptedPeer::start(vec![steps]).await;
        let world = timed(peer.address(), timeouts, retry)?;
        let clock = SystemClock::new();
        let mut h1 = H1Client::connect(world.http()).await?;
        assert!(h1.get("/", "a", &[]).await.is_err(), "{timeouts:?}");
        let mut h2 = H2Client::connect(world.http()).await?;
        assert!(h2.request("GET", "a", "/", &[], b"").await.is_err(), "{timeouts:?}");
        ensure!(elapsed(&clock) < Duration::from_secs(10), "{timeouts:?}: {:?}", elapsed(&clock));
        assert_eq!((failed(world.engine(), "upstream_timeout"), peer.connections()), (2, 2), "{timeouts:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_response_that_keeps_coming_is_not_idle() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n";
    let steps =
        vec![Step::until("\r\n\r\n"), Step::send(head), Step::Trickle(vec![b'x'; 20], Duration::from_millis(50))];
    let peer = ScriptedPeer::start(vec![steps]).await;
    let world = timed(peer.address(), idle(500), None)?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.body.len(), 20, "it takes twice the limit in all");
    Ok(())
}

/// The request timeout starts when the request is complete; the idle timeout has started before.
#[tokio::test]
async fn a_request_that_is_slow_to_come() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = timed(echo.address(), request(300), None)?;
    let mut client = H2Client::connect(world.http()).await?;
    let mut exchange = client.open("POST", "a", "/", &[], false).await?;
    exchange.send(b"one", false).await?;
    let mut other = H1Client::connect(world.http()).await?;
    for _ in 0..2 {
        // Each takes as long as the limit.
        assert_eq!(other.get("/", "a", &[("X-Echo", "delay:2000")]).await?.status, 504);
    }
    exchange.send(b"two", true).await?;
    assert_eq!(exchange.response().await?.json()["body"]["text"], "onetwo");
    let world = timed(echo.address(), idle(200), None)?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await?;
    assert_eq!(client.response().await?.status, 408, "the client is the side that is silent");
    assert_eq!((failed(world.engine(), "body_timeout"), failed(world.engine(), "upstream_timeout")), (1, 0));
    Ok(())
}

#[tokio::test]
async fn the_request_timeout_covers_all_tries() -> Result<()> {
    let policy = Retry { per_try_timeout_ms: 100, ..retry(50, &[On::PerTryTimeout]) };
    let peer = ScriptedPeer::start(vec![silent()]).await;
    let world = timed(peer.address(), request(350), Some(policy))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 504);
    let tries = retried(world.engine(), "per_try_timeout") + 1;
    assert!((2..=4).contains(&tries), "{tries} tries");
    // A delay that exceeds the request timeout is not started: the response is forwarded.
    let peer = ScriptedPeer::start(vec![limited("Retry-After: 30")]).await;
    let world = timed(peer.address(), request(5_000), Some(by_headers(60_000)))?;
    let mut client = H1Client::connect(world.http()).await?;
    let clock = SystemClock::new();
    assert_eq!(client.get("/", "a", &[]).await?.status, 429);
    ensure!(elapsed(&clock) < Duration::from_secs(4), "{:?}", elapsed(&clock));
    Ok(())
}

#[tokio::test]
async fn a_route_replaces_single_timeouts() -> Result<()> {
    let peer = ScriptedPeer::start(vec![silent()]).await;
    let yaml = one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({}));
    let timeouts = Some(TimeoutOverrides { request_ms: Some(100), ..TimeoutOverrides::default() });
    let policies = RoutePolicies { timeouts, ..RoutePolicies::default() };
    let configuration = changed(
        &yaml,
        |backend| backend.timeouts = request(60_000),
        |route| route.policies = Some(Box::new(policies.clone())),
    )?;
    let world = World::of(plugins(), configuration)?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 504);
    Ok(())
}

#[tokio::test]
async fn zero_is_no_limit() -> Result<()> {
    let pause = || {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let pause = Step::Pause(Duration::from_millis(100));
        vec![Step::until("\r\n\r\n"), pause.clone(), Step::send(response), pause, Step::send("ok")]
    };
    let off = Timeouts { connect_ms: 0, read_ms: 0, write_ms: 0, request_ms: 0, idle_ms: 0, stream_ms: 0 };
    let peer = ScriptedPeer::start(vec![pause()]).await;
    let world = timed(peer.address(), off, None)?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.request("PUT", "/", "a", &[], b"x").await?.text(), "ok");
    Ok(())
}

#[tokio::test]
async fn limits_that_are_kept_change_nothing() -> Result<()> {
    let peer = ScriptedPeer::start(vec![play("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")]).await;
    let timeouts = Timeouts { request_ms: 5_000, idle_ms: 5_000, stream_ms: 5_000, ..Timeouts::default() };
    let policy = Retry { per_try_timeout_ms: 5_000, per_try_idle_timeout_ms: 5_000, ..retry(1, &[On::Reset]) };
    let world = timed(peer.address(), timeouts, Some(policy))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.text(), "ok");
    let mut client = H2Client::connect(world.http()).await?;
    assert_eq!(client.request("POST", "a", "/", &[], b"x").await?.text(), "ok");
    Ok(())
}

#[tokio::test]
async fn websockets_end_when_they_are_idle_or_too_old() -> Result<()> {
    let echo = EchoServer::start("ws").await;
    let open = async |world: &World| -> Result<WebSocket> {
        WebSocket::open(H1Client::connect(world.http()).await?, "/ws", "a", &[]).await
    };
    // An idle timeout ends it without a failure, like a tunnel in nginx.
    let world = timed(echo.address(), Timeouts { request_ms: 50, ..idle(300) }, None)?;
    let mut socket = open(&world).await?;
    socket.send_text("hello").await?;
    assert_eq!(socket.next().await?.map(|frame| frame.payload), Some(b"hello".to_vec()));
    let ended = socket.next().await;
    ensure!(!matches!(ended, Ok(Some(_))), "it is still open");
    assert!(eventually(|| world.engine().totals().serving == 0).await);
    assert_eq!(failed(world.engine(), "upstream_timeout"), 0);
    // Even with constant traffic, it ends with its maximum lifetime.
    let world = timed(echo.address(), stream(400), None)?;
    let mut socket = open(&world).await?;
    let clock = SystemClock::new();
    while socket.send_text("x").await.is_ok() && matches!(socket.next().await, Ok(Some(_))) {
        ensure!(elapsed(&clock) < Duration::from_secs(10), "it is still open");
    }
    ensure!(elapsed(&clock) > Duration::from_millis(200), "{:?}", elapsed(&clock));
    assert!(eventually(|| failed(world.engine(), "upstream_timeout") == 1).await);
    Ok(())
}

/// If the client stops sending, the request is not retried at other endpoints.
#[tokio::test]
async fn a_try_that_waits_for_the_client_is_not_repeated() -> Result<()> {
    let peer = ScriptedPeer::start(vec![silent()]).await;
    let policy = Retry { per_try_idle_timeout_ms: 200, ..retry(3, &[On::PerTryTimeout, On::Timeout]) };
    let world = timed(peer.address(), Timeouts::default(), Some(policy))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await?;
    assert_eq!(client.response().await?.status, 408);
    assert_eq!((peer.connections(), retried(world.engine(), "per_try_timeout")), (1, 0));
    assert_eq!((failed(world.engine(), "body_timeout"), failed(world.engine(), "upstream_timeout")), (1, 0));
    Ok(())
}
