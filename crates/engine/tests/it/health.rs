//! Health checks: targets become unhealthy and healthy again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use cardinal_testkit::{Authority, EchoServer, H1Client, ScriptedPeer, Step, World, frame, free_port};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::{Value, json};

use crate::plugins;
use crate::scene::{JSON, balanced, eventually, health, no_peer, outcome, target, until_state};
use crate::upstream_http2::{Exchange, Server};

/// An address without a listener.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Passive checks with this threshold for a kind of failure.
fn passive(kind: &str, count: u32) -> Value {
    json!({ "healthchecks": { "passive": { "unhealthy": { kind: count } } } })
}

/// Active checks of a kind: every 20 ms, with thresholds of one.
fn active(kind: &str, more: Value) -> Value {
    let mut checks = crate::scene::merged(
        json!({
            "type": kind, "https_verify_certificate": false, "timeout": 1,
            "healthy": { "interval": 0.02, "successes": 1 },
            "unhealthy": { "interval": 0.02, "tcp_failures": 1, "http_failures": 1, "timeouts": 1 },
        }),
        more,
    );
    checks = json!({ "healthchecks": { "active": checks, "passive": { "unhealthy": { "tcp_failures": 1 } } } });
    checks
}

/// Statuses of this many requests on one connection.
async fn statuses(world: &World, count: usize, fields: &[(&str, &str)]) -> Result<Vec<u16>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get("/", "a", fields).await?.status);
    }
    Ok(statuses)
}

async fn refusal(world: &World) -> Result<(u16, String)> {
    Ok(outcome(&H1Client::connect(world.http()).await?.get("/", "a", &[JSON]).await?))
}

/// Health by target, in order.
fn states(world: &World, targets: &[SocketAddr]) -> Vec<&'static str> {
    let all = health(world.engine());
    let of = |address: &SocketAddr| all.iter().find(|(target, _)| *target == address.to_string()).map(|(_, s)| *s);
    targets.iter().map(|address| of(address).unwrap_or("missing")).collect()
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_left_out() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (dead, live) = (nowhere(), echo.address());
    let yaml = balanced(&[target(dead), target(live)], passive("tcp_failures", 2), json!({ "retries": 0 }));
    let world = World::start(plugins(), &yaml, &[])?;
    assert_eq!(states(&world, &[dead, live]), ["healthy", "healthy"]);
    let seen = statuses(&world, 20, &[]).await?;
    assert_eq!(seen.iter().filter(|status| **status == 502).count(), 2, "two failures, then none: {seen:?}");
    assert_eq!(states(&world, &[dead, live]), ["unhealthy", "healthy"]);
    assert!(statuses(&world, 10, &[]).await?.iter().all(|status| *status == 200));
    Ok(())
}

#[tokio::test]
async fn without_checks_nothing_is_judged() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let (dead, live) = (nowhere(), echo.address());
    let world =
        World::start(plugins(), &balanced(&[target(dead), target(live)], json!({}), json!({ "retries": 0 })), &[])?;
    let seen = statuses(&world, 10, &[]).await?;
    assert_eq!(seen.iter().filter(|status| **status == 502).count(), 5, "{seen:?}");
    assert_eq!(states(&world, &[dead, live]), ["healthchecks_off", "healthchecks_off"]);
    Ok(())
}

#[tokio::test]
async fn when_all_are_down_nobody_is_asked() -> Result<()> {
    let (one, two) = (nowhere(), nowhere());
    let yaml = balanced(&[target(one), target(two)], passive("tcp_failures", 1), json!({ "retries": 5 }));
    let world = World::start(plugins(), &yaml, &[])?;
    let first = refusal(&world).await?;
    assert!(matches!(first.0, 502 | 503), "{first:?}");
    assert_eq!(states(&world, &[one, two]), ["unhealthy", "unhealthy"]);
    assert_eq!(refusal(&world).await?, no_peer());
    Ok(())
}

#[tokio::test]
async fn statuses_and_timeouts_count_as_configured() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let service = || json!({ "retries": 0, "read_timeout": 60 });
    for (kind, limit, behaviour, status) in [
        ("http_failures", 3, "status:500", 500),
        ("http_failures", 2, "status:429", 429),
        ("timeouts", 2, "delay:1000", 504),
        ("timeouts", 1, "status:504", 504),
        ("tcp_failures", 2, "cut:start", 502),
    ] {
        let yaml = balanced(&[target(echo.address())], passive(kind, limit), service());
        let world = World::start(plugins(), &yaml, &[])?;
        let fields = [("X-Echo", behaviour)];
        let seen = statuses(&world, limit as usize + 1, &fields).await?;
        let mut expect = vec![status; limit as usize];
        expect.push(503);
        assert_eq!(seen, expect, "{kind} {behaviour}");
        assert_eq!(refusal(&world).await?, no_peer());
    }
    // Statuses outside the list, and failures without a threshold, are ignored.
    for (kind, behaviour) in
        [("http_failures", "status:502"), ("tcp_failures", "status:500"), ("timeouts", "status:500")]
    {
        let yaml = balanced(&[target(echo.address())], passive(kind, 1), service());
        let world = World::start(plugins(), &yaml, &[])?;
        statuses(&world, 3, &[("X-Echo", behaviour)]).await?;
        assert_eq!(states(&world, &[echo.address()]), ["healthy"], "{kind} {behaviour}");
    }
    Ok(())
}

#[tokio::test]
async fn a_success_forgives_failures() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let checks = json!({ "healthchecks": { "passive": {
        "healthy": { "successes": 1 }, "unhealthy": { "http_failures": 3 } } } });
    let world = World::start(plugins(), &balanced(&[target(echo.address())], checks, json!({})), &[])?;
    // One connection: the outcome of a response is reported before the next request is read, so the order is
    // deterministic.
    let mut client = H1Client::connect(world.http()).await?;
    let mut seen = Vec::new();
    for (count, echo) in [(2, "status:500"), (1, "status:200")].repeat(3).into_iter().chain([(4, "status:500")]) {
        for _ in 0..count {
            seen.push(client.get("/", "a", &[("X-Echo", echo)]).await?.status);
        }
    }
    assert_eq!(seen, [500, 500, 200, 500, 500, 200, 500, 500, 200, 500, 500, 500, 503]);
    Ok(())
}

#[tokio::test]
async fn traffic_alone_never_brings_one_back_but_a_word_does() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let yaml = balanced(&[target(echo.address())], passive("http_failures", 1), json!({}));
    let world = World::start(plugins(), &yaml, &[])?;
    assert_eq!(statuses(&world, 3, &[("X-Echo", "status:500")]).await?, [500, 503, 503]);
    let plan = world.engine().plan().expect("a plan is served");
    let group = &plan
        .group(None)
        .http_routes
        .iter()
        .next()
        .expect("a route")
        .backends()
        .next()
        .expect("the route has a backend")
        .group;
    let (endpoint, now) = (group.status().members[0].endpoint, world.engine().services().clock.tick());
    group.set_health(endpoint, None, true, now)?;
    assert_eq!(states(&world, &[echo.address()]), ["healthy"]);
    assert_eq!(statuses(&world, 2, &[]).await?, [200, 200]);
    group.set_health(endpoint, Some(echo.address()), false, now)?;
    assert_eq!(refusal(&world).await?, no_peer());
    Ok(())
}

#[tokio::test]
async fn probes_find_out_who_is_there() -> Result<()> {
    let authority = Authority::new("root");
    let issued = authority.issue(&["localhost"]);
    for kind in ["http", "https", "tcp"] {
        let tls = (kind == "https").then(|| authority.server(&issued, &["http/1.1"], false));
        let first = EchoServer::start_at(([127, 0, 0, 1], 0).into(), "first", tls.clone()).await?;
        let address = first.address();
        let protocol = if kind == "https" { "https" } else { "http" };
        let yaml = balanced(&[target(address)], active(kind, json!({})), json!({ "protocol": protocol, "retries": 0 }));
        let world = World::start(plugins(), &yaml, &[])?;
        assert_eq!(statuses(&world, 2, &[]).await?, [200, 200], "{kind}");
        drop(first);
        until_state(&world, address, "unhealthy").await?;
        assert_eq!(refusal(&world).await?, no_peer(), "{kind}");
        let second = EchoServer::start_at(address, "second", tls).await?;
        until_state(&world, address, "healthy").await?;
        assert_eq!(statuses(&world, 2, &[]).await?, [200, 200], "{kind}");
        assert!(second.requests() >= 2);
    }
    Ok(())
}

#[tokio::test]
async fn probes_ask_as_configured() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let more = json!({ "http_path": "/alive/x", "headers": { "X-Probe": ["one", "two"] } });
    let mut upstream = active("http", more);
    upstream["host_header"] = json!("up.test");
    let _world = World::start(plugins(), &balanced(&[target(echo.address())], upstream, json!({})), &[])?;
    assert!(eventually(|| !echo.seen().is_empty()).await);
    let probe = &echo.seen()[0];
    assert_eq!(
        (probe.method.as_str(), probe.target.as_str(), probe.authority.as_str()),
        ("GET", "/alive/x", "up.test")
    );
    assert_eq!(probe.headers.all("x-probe").collect::<Vec<_>>(), ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn probes_judge_by_status_and_time() -> Result<()> {
    let answer = |status: &str| {
        vec![
            Step::until("\r\n\r\n"),
            Step::send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
        ]
    };
    let silent = vec![Step::until("\r\n\r\n"), Step::Pause(Duration::from_secs(10))];
    let (bad, good) = (answer("500 Sorry"), answer("302 Found"));
    for failing in [bad, silent, answer("nonsense")] {
        // Enough failures to be observed.
        let mut plays = vec![failing; 6];
        plays.push(good.clone());
        let peer = ScriptedPeer::start(plays).await;
        let upstream = active("http", json!({ "timeout": 0.1 }));
        let world = World::start(plugins(), &balanced(&[target(peer.address())], upstream, json!({})), &[])?;
        until_state(&world, peer.address(), "unhealthy").await?;
        until_state(&world, peer.address(), "healthy").await?;
    }
    Ok(())
}

#[tokio::test]
async fn grpc_servers_are_asked_for_their_health() -> Result<()> {
    let serving = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&serving);
    let server = Server::start(None, move |mut exchange: Exchange| {
        let serving = asked.load(Ordering::SeqCst);
        async move {
            anyhow::ensure!(exchange.path() == "/grpc.health.v1.Health/Check", "{}", exchange.path());
            exchange.body().await?;
            let mut send = exchange.respond(Response::builder().header("content-type", "application/grpc"), false)?;
            send.send_data(Bytes::from(frame(&[8, if serving { 1 } else { 2 }])), false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Ok(send.send_trailers(trailers)?)
        }
    })
    .await;
    let yaml = balanced(&[target(server.address())], active("grpc", json!({})), json!({ "protocol": "grpc" }));
    let world =
        World::start(plugins(), &yaml.replace("\"paths\":[\"/\"]", "\"paths\":[\"/\"],\"protocols\":[\"grpc\"]"), &[])?;
    until_state(&world, server.address(), "unhealthy").await?;
    serving.store(true, Ordering::SeqCst);
    until_state(&world, server.address(), "healthy").await?;
    Ok(())
}

#[tokio::test]
async fn health_and_counts_outlive_a_reload() -> Result<()> {
    let (one, two) = (EchoServer::start("1").await, EchoServer::start("2").await);
    let targets = [target(one.address()), target(two.address())];
    let at =
        |n: u32| balanced(&targets, passive("http_failures", 3), json!({ "tags": [format!("g{n}")], "retries": 0 }));
    let world = World::start(plugins(), &at(0), &[])?;
    let failing = [("X-Echo", "status:500")];
    assert_eq!(statuses(&world, 4, &failing).await?, [500; 4]);
    world.apply(&at(1))?;
    assert_eq!(states(&world, &[one.address(), two.address()]), ["healthy", "healthy"]);
    // Each has two of three failures already.
    let seen = statuses(&world, 3, &failing).await?;
    assert_eq!(seen, [500, 500, 503]);
    world.apply(&at(2))?;
    assert_eq!(states(&world, &[one.address(), two.address()]), ["unhealthy", "unhealthy"]);
    assert_eq!(refusal(&world).await?, no_peer());
    let fewer = balanced(&targets[..1], json!({}), json!({}));
    world.apply(&fewer)?;
    assert_eq!(statuses(&world, 2, &[]).await?, [200, 200], "without checks there is no verdict");
    Ok(())
}

#[tokio::test]
async fn too_few_are_none() -> Result<()> {
    let echoes = [EchoServer::start("0").await, EchoServer::start("1").await];
    let dead = [nowhere(), nowhere()];
    for (threshold, down, serves) in [(0, 2, true), (49, 2, true), (50, 2, false), (66, 1, true), (67, 1, false)] {
        let mut targets: Vec<_> = echoes.iter().map(|echo| target(echo.address())).collect();
        targets.extend(dead[..down].iter().map(|address| target(*address)));
        let mut upstream = passive("tcp_failures", 1);
        upstream["healthchecks"]["threshold"] = json!(threshold);
        let world = World::start(plugins(), &balanced(&targets, upstream, json!({ "retries": 5 })), &[])?;
        // Requests may fail until the endpoints that are down have been detected.
        statuses(&world, 8, &[]).await?;
        assert_eq!(states(&world, &dead[..down]), vec!["unhealthy"; down]);
        let expect = if serves { (200, String::new()) } else { no_peer() };
        assert_eq!(refusal(&world).await?, expect, "threshold {threshold}, {down} down");
    }
    Ok(())
}
