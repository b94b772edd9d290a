//! Retry and timeout policies: which requests are retried, and which limits end a request.

mod bodies;
mod http2;
mod timeouts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use cardinal_base::{Clock as _, SystemClock};
use cardinal_engine::explain::{Explainer, Question};
use cardinal_engine::{Configuration, Engine};
use cardinal_ir::policy::{
    Backoff, HeaderCheck, HeaderValue, RateLimitedBackoff, ResetFormat, ResetHeader, Retry, RetryBudget,
    RetryCondition as On, RetryMethods, RoutePolicies, TimeoutOverrides,
};
use cardinal_ir::{Backend, Route};
use cardinal_testkit::{EchoServer, H1Client, H2Client, Play, ScriptedPeer, Step, World, free_port};
use serde_json::json;

use crate::plugins;
use crate::scene::{JSON, balanced, eventually, health, one, target};

/// A configuration with its backends and routes changed.
fn changed(yaml: &str, backend: impl Fn(&mut Backend), route: impl Fn(&mut Route)) -> Result<Configuration> {
    let mut configuration = World::compiled(plugins(), yaml, &[])?;
    let ir = configuration.ir_mut();
    for (id, record) in ir.backends.iter().map(|(id, r)| (*id, Backend::clone(r))).collect::<Vec<_>>() {
        let mut record = record;
        backend(&mut record);
        ir.backends.insert(id, record);
    }
    for (id, record) in ir.routes.iter().map(|(id, r)| (*id, Route::clone(r))).collect::<Vec<_>>() {
        let mut record = record;
        route(&mut record);
        ir.routes.insert(id, record);
    }
    Ok(configuration)
}

/// A world with one service at an address.
fn world(address: SocketAddr, backend: impl Fn(&mut Backend)) -> Result<World> {
    let yaml = one(&format!("http://{address}"), json!({ "retries": 0 }), json!({}));
    World::of(plugins(), changed(&yaml, backend, |_| {})?)
}

/// This number of retries, on these conditions.
fn retry(attempts: u16, conditions: &[On]) -> Retry {
    Retry { attempts, conditions: conditions.to_vec(), ..Retry::default() }
}

fn set(retry: Retry) -> impl Fn(&mut Backend) {
    let retry = Arc::new(retry);
    move |backend| backend.retry = Some(Arc::clone(&retry))
}

/// Reads a request head and sends this response; the connection ends after it.
fn play(response: &str) -> Play {
    vec![Step::until("\r\n\r\n"), Step::send(response)]
}

/// A response whose connection is not reused.
fn with_status(status: u16) -> Play {
    play(&format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\nConnection: close\r\nX-First: 1\r\n\r\nfirst"))
}

fn fine() -> Play {
    play("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

/// Sends nothing until the other side closes.
fn silent() -> Play {
    vec![Step::until("\r\n\r\n"), Step::Drain]
}

/// Number of retries for this reason.
fn retried(engine: &Engine, reason: &str) -> u64 {
    engine.totals().retries.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
}

fn failed(engine: &Engine, kind: &str) -> u64 {
    engine.totals().failures.iter().find(|(known, _)| known.label() == kind).map_or(0, |(_, count)| *count)
}

#[tokio::test]
async fn each_condition_makes_a_request_be_sent_again() -> Result<()> {
    let check = |name: &str, value| On::ResponseHeader(HeaderCheck { name: name.into(), value });
    let per_try = |retry: Retry| Retry { per_try_timeout_ms: 100, ..retry };
    let per_try_idle = |retry: Retry| Retry { per_try_idle_timeout_ms: 100, ..retry };
    let started = "HTTP/1.1 200 OK\r\nContent-Le";
    for (retry, first, reason) in [
        (retry(1, &[On::ServerError]), with_status(500), "status"),
        (retry(1, &[On::GatewayError]), with_status(503), "status"),
        (retry(1, &[On::Retriable4xx]), with_status(409), "status"),
        (retry(1, &[On::Status(418)]), with_status(418), "status"),
        (retry(1, &[check("X-First", HeaderValue::Present)]), with_status(200), "header"),
        (retry(1, &[check("x-first", HeaderValue::Exact("1".into()))]), with_status(200), "header"),
        (retry(1, &[On::Reset]), vec![Step::until("\r\n\r\n")], "reset"),
        (retry(1, &[On::Reset]), vec![Step::until("\r\n\r\n"), Step::Reset], "reset"),
        (retry(1, &[On::Reset]), play(started), "reset"),
        (per_try(retry(1, &[On::PerTryTimeout])), silent(), "per_try_timeout"),
        (per_try(retry(1, &[On::Timeout])), silent(), "per_try_timeout"),
        (per_try_idle(retry(1, &[On::PerTryTimeout])), silent(), "per_try_timeout"),
    ] {
        let peer = ScriptedPeer::start(vec![first.clone(), fine(), first.clone(), fine()]).await;
        let world = world(peer.address(), set(retry.clone()))?;
        let mut h1 = H1Client::connect(world.http()).await?;
        let mut h2 = H2Client::connect(world.http()).await?;
        let responses = [h1.get("/", "a", &[]).await?, h2.request("GET", "a", "/", &[], b"").await?];
        for response in responses {
            assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{retry:?}");
            assert_eq!(response.header("x-first"), None, "{retry:?}: nothing of the first response is left");
        }
        assert_eq!((peer.connections(), retried(world.engine(), reason)), (4, 2), "{retry:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_no_condition_names_is_not_sent_again() -> Result<()> {
    for (conditions, first, status) in [
        (&[On::GatewayError][..], with_status(500), 500),
        (&[On::Status(418)], with_status(503), 503),
        (&[On::ServerError, On::Timeout, On::ConnectFailure], vec![Step::until("\r\n\r\n")], 502),
        (&[On::Reset], with_status(503), 503),
        (&[On::Reset, On::ServerError], play("not HTTP\r\n\r\n"), 502),
        (&[], with_status(503), 503),
    ] {
        let peer = ScriptedPeer::start(vec![first, fine()]).await;
        let world = world(peer.address(), set(retry(3, conditions)))?;
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.get("/", "a", &[]).await?.status, status, "{conditions:?}");
        assert_eq!(peer.connections(), 1, "{conditions:?}");
    }
    Ok(())
}

/// Without a retry policy, the value lowered by the Kong front end does not drop responses.
#[tokio::test]
async fn retries_of_a_service_are_about_connections_alone() -> Result<()> {
    let peer = ScriptedPeer::start(vec![with_status(503), fine()]).await;
    let yaml = one(&format!("http://{}", peer.address()), json!({ "retries": 5 }), json!({}));
    let world = World::start(plugins(), &yaml, &[])?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[]).await?;
    assert_eq!((response.status, response.text().as_str()), (503, "first"));
    Ok(())
}

#[tokio::test]
async fn the_last_response_is_that_of_the_client() -> Result<()> {
    let peer = ScriptedPeer::start(vec![with_status(500), with_status(503), with_status(502), fine()]).await;
    let world = world(peer.address(), set(retry(2, &[On::ServerError])))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[]).await?;
    assert_eq!((response.status, response.text().as_str(), response.header("x-first")), (502, "first", Some("1")));
    assert_eq!((peer.connections(), retried(world.engine(), "status")), (3, 2));
    // A failed retry is handled like any other failure.
    let peer = ScriptedPeer::start(vec![with_status(503), vec![Step::until("\r\n\r\n")], fine()]).await;
    let world = self::world(peer.address(), set(retry(5, &[On::ServerError])))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[JSON]).await?;
    let message = "An invalid response was received from the upstream server";
    assert_eq!((response.status, response.json()["message"].as_str()), (502, Some(message)));
    Ok(())
}

/// The rest of a dropped response is read if it has arrived, and the connection is reused; if it is long, the
/// connection is closed.
#[tokio::test]
async fn a_dropped_response_leaves_the_connection_usable() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = self::world(echo.address(), set(retry(2, &[On::ServerError])))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[("X-Echo", "status:503,bytes:100")]).await?;
    assert_eq!((response.status, response.body.len()), (503, 100));
    assert_eq!(echo.requests(), 3);
    let before = echo.connections();
    ensure!(before <= 3, "{before} connections");
    let response = client.get("/", "a", &[("X-Echo", "status:503,bytes:3000000")]).await?;
    assert_eq!((response.status, response.body.len(), echo.requests()), (503, 3_000_000, 6));
    ensure!(echo.connections() >= before + 2, "long responses were read to their end");
    Ok(())
}

#[tokio::test]
async fn another_endpoint_is_tried_and_the_first_one_is_judged() -> Result<()> {
    let bad = ScriptedPeer::start(vec![with_status(503)]).await;
    let echo = EchoServer::start("e").await;
    let passive = json!({ "healthchecks": { "passive": {
        "unhealthy": { "http_statuses": [503], "http_failures": 2 } } } });
    let yaml = balanced(&[target(bad.address()), target(echo.address())], passive, json!({ "retries": 0 }));
    let configuration = changed(&yaml, set(retry(1, &[On::GatewayError])), |_| {})?;
    let world = World::of(plugins(), configuration)?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..10 {
        assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    }
    assert_eq!(bad.connections(), 2, "two failures, then it is left out");
    let states: Vec<_> = health(world.engine()).into_iter().map(|(_, state)| state).collect();
    assert!(states.contains(&"unhealthy") && states.contains(&"healthy"), "{states:?}");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_fails_is_made_elsewhere() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let yaml = balanced(&[target(dead), target(echo.address())], json!({}), json!({ "retries": 0 }));
    for (conditions, ok) in [(&[On::ConnectFailure][..], true), (&[On::Reset, On::ServerError], false)] {
        let world = World::of(plugins(), changed(&yaml, set(retry(1, conditions)), |_| {})?)?;
        let mut client = H1Client::connect(world.http()).await?;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(client.request("POST", "/", "a", &[], b"x").await?.status);
        }
        assert_eq!(statuses.iter().all(|status| *status == 200), ok, "{conditions:?}: {statuses:?}");
        assert_eq!(retried(world.engine(), "connect_failure") > 0, ok);
    }
    Ok(())
}

#[tokio::test]
async fn methods_are_those_of_the_policy() -> Result<()> {
    for (methods, method, status) in [
        (RetryMethods::Idempotent, "DELETE", 200),
        (RetryMethods::Idempotent, "POST", 503),
        (RetryMethods::Any, "POST", 200),
        (RetryMethods::Listed(vec!["PATCH".into()]), "PATCH", 200),
        (RetryMethods::Listed(vec!["PATCH".into()]), "DELETE", 503),
    ] {
        let peer = ScriptedPeer::start(vec![with_status(503), fine()]).await;
        let policy = Retry { methods: methods.clone(), ..retry(1, &[On::ServerError]) };
        let world = world(peer.address(), set(policy))?;
        let mut client = H1Client::connect(world.http()).await?;
        assert_eq!(client.request(method, "/", "a", &[], b"").await?.status, status, "{method} {methods:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_route_replaces_the_policy_of_its_backend() -> Result<()> {
    let peer = ScriptedPeer::start(vec![with_status(503), fine(), with_status(503), fine()]).await;
    let yaml = one(&format!("http://{}", peer.address()), json!({ "retries": 5 }), json!({}));
    let of_route = |retry: Retry| {
        move |route: &mut Route| {
            let retry = Some(Arc::new(retry.clone()));
            route.policies = Some(Box::new(RoutePolicies { retry, ..RoutePolicies::default() }));
        }
    };
    let on = changed(&yaml, |_| {}, of_route(retry(1, &[On::ServerError])))?;
    let world = World::of(plugins(), on)?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    let off = changed(&yaml, set(retry(1, &[On::ServerError])), of_route(Retry::default()))?;
    world.serve_other(off)?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn a_budget_limits_retries() -> Result<()> {
    let policy = |min_concurrency| Retry {
        budget: Some(RetryBudget { percent: 0, min_concurrency }),
        ..retry(3, &[On::ServerError])
    };
    let peer = ScriptedPeer::start(vec![with_status(503)]).await;
    let world = self::world(peer.address(), set(policy(0)))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 503);
    assert_eq!((peer.connections(), world.engine().totals().retry_budget_exhausted), (1, 1));
    assert_eq!(retried(world.engine(), "status"), 0);
    // One retry at a time: a second request is not retried while the retry of the first one is in progress.
    let peer = ScriptedPeer::start(vec![with_status(503), silent(), with_status(503), fine()]).await;
    let world = self::world(peer.address(), set(policy(1)))?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    assert!(eventually(|| peer.connections() == 2).await);
    let mut second = H1Client::connect(world.http()).await?;
    assert_eq!(second.get("/", "a", &[]).await?.status, 503);
    assert_eq!(world.engine().totals().retry_budget_exhausted, 1);
    drop(first);
    assert!(eventually(|| world.engine().totals().serving == 0).await);
    let peer = ScriptedPeer::start(vec![with_status(503), fine()]).await;
    world.serve_other(changed(
        &one(&format!("http://{}", peer.address()), json!({ "retries": 0 }), json!({})),
        set(policy(1)),
        |_| {},
    )?)?;
    assert_eq!(second.get("/", "a", &[]).await?.status, 200, "what had ended was given back");
    Ok(())
}

fn by_headers(max_ms: u64) -> Retry {
    let header = |name: &str, format| ResetHeader { name: name.into(), format };
    let headers =
        vec![header("Retry-After", ResetFormat::Seconds), header("X-RateLimit-Reset", ResetFormat::UnixTimestamp)];
    Retry { rate_limited: Some(RateLimitedBackoff { headers, max_ms }), ..retry(1, &[On::Status(429)]) }
}

fn limited(field: &str) -> Play {
    play(&format!("HTTP/1.1 429 X\r\n{field}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

#[tokio::test]
async fn a_response_that_names_a_wait_is_obeyed() -> Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed()?;
    let reset = limited(&format!("X-RateLimit-Reset: {}", now.as_secs() + 1));
    let peer = ScriptedPeer::start(vec![reset, fine()]).await;
    let world = self::world(peer.address(), set(by_headers(60_000)))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    let after = SystemTime::UNIX_EPOCH.elapsed()?;
    // The wall clock of a worker is synchronized once per second; a slot of the wheel is 20 ms.
    assert!(after + Duration::from_millis(50) >= Duration::from_secs(now.as_secs() + 1), "{now:?} {after:?}");
    // Delays above the maximum are not used.
    let peer = ScriptedPeer::start(vec![limited("Retry-After: 61"), fine()]).await;
    let world = self::world(peer.address(), set(by_headers(60_000)))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_wait() -> Result<()> {
    let peer = ScriptedPeer::start(vec![limited("Retry-After: 60"), fine()]).await;
    let world = self::world(peer.address(), set(by_headers(90_000)))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    assert!(eventually(|| retried(world.engine(), "status") == 1).await);
    assert_eq!(world.engine().totals().serving, 1);
    drop(client);
    assert!(eventually(|| world.engine().totals().serving == 0).await);
    let mut client = H2Client::connect(world.http()).await?;
    assert_eq!(client.request("GET", "a", "/", &[], b"").await?.status, 200, "the wait is not that of others");
    assert_eq!(peer.connections(), 2);
    Ok(())
}

#[tokio::test]
async fn retries_wait_with_backoff() -> Result<()> {
    let peer = ScriptedPeer::start(vec![with_status(503), with_status(503), with_status(503), fine()]).await;
    let policy = Retry { backoff: Backoff { base_ms: 20, max_ms: 40 }, ..retry(3, &[On::ServerError]) };
    let world = self::world(peer.address(), set(policy))?;
    let mut client = H1Client::connect(world.http()).await?;
    let clock = SystemClock::new();
    assert_eq!(client.get("/", "a", &[]).await?.status, 200);
    ensure!(elapsed(&clock) < Duration::from_secs(5), "{:?}", elapsed(&clock));
    assert_eq!(retried(world.engine(), "status"), 3);
    Ok(())
}

#[tokio::test]
async fn explain_shows_retries_and_timeouts() -> Result<()> {
    let yaml = one("http://127.0.0.1:1", json!({ "retries": 5, "read_timeout": 7 }), json!({}));
    let explain = async |configuration: Configuration| -> Result<_> {
        let (explainer, _) = Explainer::new(configuration, plugins())?;
        let question = Question { method: "GET".into(), url: "/".into(), ..Question::default() };
        let decision = explainer.decide(&question, 0).await?;
        Ok((decision.retry, decision.timeouts.unwrap_or_default()))
    };
    let kong = "5 on connect failure, reset, refused stream, timeout; idempotent methods";
    let times = "connect 60000 ms, read 7 ms, write 60000 ms";
    assert_eq!(explain(changed(&yaml, |_| {}, |_| {})?).await?, (Some(kong.into()), times.into()));
    let timeouts = Some(TimeoutOverrides { read_ms: Some(0), request_ms: Some(9), ..TimeoutOverrides::default() });
    let retry = Some(Arc::new(retry(2, &[On::ServerError])));
    let policies = RoutePolicies { retry, timeouts, ..RoutePolicies::default() };
    let overridden = changed(&yaml, |_| {}, |route| route.policies = Some(Box::new(policies.clone())))?;
    let times = "connect 60000 ms, write 60000 ms, request 9 ms";
    assert_eq!(explain(overridden).await?, (Some("2 on status 5xx; idempotent methods".into()), times.into()));
    let none = one("http://127.0.0.1:1", json!({ "retries": 0 }), json!({}));
    assert_eq!(explain(changed(&none, |_| {}, |_| {})?).await?.0, None);
    Ok(())
}

/// Time since the creation of a clock.
fn elapsed(clock: &SystemClock) -> Duration {
    Duration::from_micros(clock.tick().0)
}
