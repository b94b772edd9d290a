//! Mirroring: the content of copies, and that mirroring never delays requests.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_engine::Configuration;
use cardinal_engine::explain::{Explainer, Question};
use cardinal_ir::policy::{Mirror, RoutePolicies};
use cardinal_ir::{Action, Backend, Id, Ir, Rank, Route, Timeouts, UpstreamTls};
use cardinal_testkit::{EchoServer, H1Client, Play, Response, ScriptedPeer, Step, World, free_port};

use crate::plugins;
use crate::records::{backend, node, origin};
use crate::scene::eventually;

const MAIN: u128 = 1;
const COPY: u128 = 2;

/// A route to one backend whose requests are copied to another one.
fn configuration(main: &EchoServer, copy: Backend, mirror: Mirror) -> Configuration {
    let mut ir = Ir::default();
    let (main_id, copy_id, route) = (Id::from_u128(MAIN), Id::from_u128(COPY), Id::from_u128(3));
    ir.backends.insert(main_id, backend(main_id, main.address()));
    ir.backends.insert(copy_id, copy);
    let policies = RoutePolicies { mirrors: vec![mirror], ..RoutePolicies::default() };
    let rank = Rank { weight: 0, tie: 3 };
    let (origin, action) = (origin("routes", route), Action::Forward(main_id));
    ir.routes.insert(route, Route { origin, rank, action, policies: Some(policies.into()), ..Route::default() });
    Configuration { ir: Arc::new(ir), node: node(), ..Configuration::default() }
}

fn mirror() -> Mirror {
    Mirror { backend: Id::from_u128(COPY), ..Mirror::default() }
}

fn copy(address: std::net::SocketAddr) -> Backend {
    backend(Id::from_u128(COPY), address)
}

/// A peer that responds to each request; a request ends with these bytes.
async fn peer(end: &str) -> ScriptedPeer {
    let answer = || [Step::until(end), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")];
    ScriptedPeer::start(vec![(0..64).flat_map(|_| answer()).collect::<Play>()]).await
}

fn received(peer: &ScriptedPeer) -> String {
    peer.received().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// Sends a request whose body has no length, in parts.
async fn chunked(client: &mut H1Client, method: &str, parts: &[&str]) -> Result<Response> {
    client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")).await?;
    for part in parts {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await?;
    }
    client.send("0\r\n\r\n").await?;
    client.response().await
}

/// Number of copies with this outcome.
fn count(world: &World, fate: &str) -> u64 {
    let totals = world.engine().totals();
    totals.mirrored.iter().find(|(label, _)| *label == fate).map_or(0, |(_, count)| *count)
}

async fn until(world: &World, fate: &str, expect: u64) -> Result<()> {
    ensure!(eventually(|| count(world, fate) == expect).await, "{fate}: {:?}", world.engine().totals().mirrored);
    Ok(())
}

#[tokio::test]
async fn head_and_body_are_copied() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("the end").await);
    let world = World::of(plugins(), configuration(&main, copy(copies.address()), mirror()))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.request("POST", "/a%20b?q=1", "a.test", &[("X-A", "b")], b"some text, the end").await?;
    assert_eq!((response.status, response.json()["server"].as_str()), (200, Some("main")));
    until(&world, "answered", 1).await?;
    let text = received(&copies);
    let address = copies.address();
    assert!(
        text.starts_with(&format!("POST /a%20b?q=1 HTTP/1.1\r\nHost: 127.0.0.1-shadow:{}\r\n", address.port())),
        "{text}"
    );
    assert!(text.contains("X-A: b\r\n") && text.contains("Content-Length: 18\r\n"), "{text}");
    assert!(text.contains("X-Forwarded-For: 127.0.0.1\r\n") && text.ends_with("\r\n\r\nsome text, the end"), "{text}");

    // A body of unknown length is copied as it is streamed; the connection is reused.
    let response = chunked(&mut client, "PUT", &["one, ", "the end"]).await?;
    assert_eq!(response.json()["body"]["text"].as_str(), Some("one, the end"));
    until(&world, "answered", 2).await?;
    let text = received(&copies);
    assert!(text.ends_with("\r\n\r\none, the end") && text.contains("Content-Length: 12\r\n"), "{text}");
    assert_eq!(copies.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn the_host_is_kept_where_that_is_asked_for() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("\r\n\r\n").await);
    let keeping = Mirror { keep_host: true, ..mirror() };
    let mut configuration = configuration(&main, copy(copies.address()), keeping);
    let world = World::of(plugins(), configuration.clone())?;
    H1Client::connect(world.http()).await?.get("/", "a.test", &[]).await?;
    until(&world, "answered", 1).await?;
    assert!(received(&copies).contains(&format!("Host: {}\r\n", copies.address())), "{}", received(&copies));

    // If the route preserves the client's Host, the copy's Host is marked.
    let (id, route) = configuration.ir.routes.iter().next().map(|(id, route)| (*id, Route::clone(route))).unwrap();
    let mut ir = Ir::clone(&configuration.ir);
    let policies = RoutePolicies { mirrors: vec![mirror()], ..RoutePolicies::default() };
    let rewrite = cardinal_ir::Rewrite { preserve_host: true, ..cardinal_ir::Rewrite::default() };
    ir.routes.insert(id, Route { rewrite, policies: Some(policies.into()), ..route });
    configuration.ir = Arc::new(ir);
    world.serve_other(configuration)?;
    H1Client::connect(world.http()).await?.get("/", "a.test:81", &[]).await?;
    until(&world, "answered", 2).await?;
    assert!(received(&copies).contains("Host: a.test-shadow:81\r\n"), "{}", received(&copies));
    Ok(())
}

#[tokio::test]
async fn a_mirror_that_hangs_delays_nobody_and_its_copies_are_limited() -> Result<()> {
    let main = EchoServer::start("main").await;
    let hanging = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let world = World::of(plugins(), configuration(&main, copy(hanging.address()), mirror()))?;
    // All requests are on one worker: the limit applies per worker.
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..140 {
        let response = client.request("POST", "/", "a.test", &[], b"text").await?;
        assert_eq!(response.status, 200);
    }
    assert_eq!(count(&world, "in_flight_limit"), 140 - 128);
    assert_eq!((count(&world, "answered"), count(&world, "failed")), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_mirror_that_fails_is_counted_and_nothing_else() -> Result<()> {
    let main = EchoServer::start("main").await;
    let nobody = ([127, 0, 0, 1], free_port()).into();
    let world = World::of(plugins(), configuration(&main, copy(nobody), mirror()))?;
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    until(&world, "failed", 1).await?;

    // A backend that closes the connection instead of responding, and one that exceeds its timeouts.
    let closing = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n")]]).await;
    world.serve_other(configuration(&main, copy(closing.address()), mirror()))?;
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    until(&world, "failed", 2).await?;
    let hanging = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let mut timeouts = Timeouts::default();
    (timeouts.connect_ms, timeouts.read_ms, timeouts.write_ms) = (10, 10, 10);
    let late = Backend { timeouts, ..copy(hanging.address()) };
    world.serve_other(configuration(&main, late, mirror()))?;
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    until(&world, "failed", 3).await?;

    // A backend whose TLS cannot be set up.
    let tls = Some(UpstreamTls { client_certificate: Some(Id::from_u128(9)), ..UpstreamTls::default() });
    let mut broken = configuration(&main, Backend { tls, ..copy(nobody) }, mirror());
    let mut ir = Ir::clone(&broken.ir);
    ir.certificates.insert(Id::from_u128(9), cardinal_ir::Certificate::default());
    broken.ir = Arc::new(ir);
    world.serve_other(broken)?;
    assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    assert_eq!(count(&world, "no_backend"), 1);
    Ok(())
}

#[tokio::test]
async fn long_bodies_pass_and_are_not_copied() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("\r\n\r\n").await);
    let small = Mirror { body_bytes_max: 1000, ..mirror() };
    let world = World::of(plugins(), configuration(&main, copy(copies.address()), small))?;
    let mut client = H1Client::connect(world.http()).await?;
    let long = "x".repeat(4 << 20);
    // Too long by its declared length, and by the received data.
    let response = client.request("POST", "/", "a.test", &[], long.as_bytes()).await?;
    assert_eq!(response.json()["body"]["bytes"].as_u64(), Some(4 << 20));
    assert_eq!(count(&world, "body_too_large"), 1);
    let response = chunked(&mut client, "POST", &["y", &long]).await?;
    assert_eq!(response.json()["body"]["bytes"].as_u64(), Some((4 << 20) + 1));
    assert_eq!(count(&world, "body_too_large"), 2);
    assert_eq!(copies.connections(), 0);

    // A body that is within the limit but long enough for splicing is forwarded and copied completely.
    let ending = peer("xxx, the end").await;
    let large = Mirror { body_bytes_max: 8 << 20, ..mirror() };
    world.serve_other(configuration(&main, copy(ending.address()), large))?;
    let body = format!("{long}, the end");
    let response = client.request("POST", "/", "a.test", &[], body.as_bytes()).await?;
    assert_eq!(response.json()["body"]["bytes"].as_u64(), Some(body.len() as u64));
    until(&world, "answered", 1).await?;
    assert!(received(&ending).ends_with(&body));
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_not_copied() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("\r\n\r\n").await);
    let world = World::of(plugins(), configuration(&main, copy(copies.address()), mirror()))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nonly this").await?;
    drop(client);
    until(&world, "body_incomplete", 1).await?;
    assert_eq!(copies.connections(), 0);
    Ok(())
}

#[tokio::test]
async fn shares_of_requests_are_copied_and_explained() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("\r\n\r\n").await);
    let none = Mirror { percent: 0.0, ..mirror() };
    let world = World::of(plugins(), configuration(&main, copy(copies.address()), none))?;
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..20 {
        assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    }
    assert_eq!(copies.connections(), 0);
    let half = configuration(&main, copy(copies.address()), Mirror { percent: 50.0, ..mirror() });
    world.serve_other(half.clone())?;
    // The probability that all or none of 300 requests are copied is less than 2^-298.
    let requests = 300;
    for _ in 0..requests {
        assert_eq!(client.get("/", "a.test", &[]).await?.status, 200);
    }
    let done = |world: &World| world.engine().totals().mirrored.iter().map(|(_, count)| count).sum::<u64>();
    ensure!(eventually(|| done(&world) > 0).await, "none was copied");
    assert!(done(&world) < requests, "all were copied");

    let (explainer, _) = Explainer::new(half, plugins())?;
    let question = Question { method: "GET".into(), url: "http://a.test/".into(), ..Question::default() };
    let decision = explainer.decide(&question, 0).await?;
    let mirrors: Vec<_> = decision.mirrors.iter().map(|mirror| (mirror.backend.id, mirror.percent)).collect();
    assert_eq!(mirrors, [(Id::from_u128(COPY), 50.0)]);
    Ok(())
}

#[tokio::test]
async fn fates_of_copies_are_metrics() -> Result<()> {
    let (main, copies) = (EchoServer::start("main").await, peer("\r\n\r\n").await);
    let world = World::of(plugins(), configuration(&main, copy(copies.address()), mirror()))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.get("/", "a.test", &[]).await?;
    until(&world, "answered", 1).await?;
    let metrics = H1Client::connect(world.status()).await?.get("/metrics", "status", &[]).await?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "cardinal_mirrored_requests_total{result=\"answered\"} 1",
        "cardinal_mirrored_requests_total{result=\"failed\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{text}");
    }
    Ok(())
}
