//! Clock and randomness are options of an engine: tests advance hours in milliseconds, and random results are
//! reproducible.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cardinal_base::{Clock as _, ManualClock, Tick};
use cardinal_engine::Options;
use cardinal_testkit::{EchoServer, H1Client, ScriptedPeer, Step, World, free_port, until, while_time_passes};
use serde_json::json;

use crate::plugins;
use crate::scene::{balanced, one, target, until_state};

fn world(clock: &Arc<ManualClock>, yaml: &str) -> Result<World> {
    World::start_with(plugins(), yaml, &[], Options { clock: Some(clock.clone()), ..Options::default() })
}

fn seconds(clock: &ManualClock) -> u64 {
    clock.tick().since(Tick(0)).as_secs()
}

#[tokio::test]
async fn a_silent_upstream_times_out_by_the_clock_of_the_engine() -> Result<()> {
    let clock = Arc::new(ManualClock::default());
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let service = json!({ "read_timeout": 3_600_000, "retries": 0 });
    let world = world(&clock, &one(&format!("http://{}", peer.address()), service, json!({})))?;
    let mut client = H1Client::connect(world.http()).await?;
    let response = client.get("/", "a", &[]);
    let response = while_time_passes("a response", &clock, Duration::from_secs(20), response).await??;
    assert_eq!(response.status, 504);
    assert!((3_600..3_700).contains(&seconds(&clock)), "{}", seconds(&clock));
    Ok(())
}

#[tokio::test]
async fn probes_are_made_by_the_clock_of_the_engine() -> Result<()> {
    let clock = Arc::new(ManualClock::default());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let checks = json!({ "active": {
        "healthy": { "interval": 600, "successes": 1 }, "unhealthy": { "interval": 600, "tcp_failures": 1 }
    } });
    let world = world(&clock, &balanced(&[target(address)], json!({ "healthchecks": checks }), json!({})))?;
    let step = Duration::from_secs(5);
    let changes = until_state(&world, address, "unhealthy");
    while_time_passes("the target to be unhealthy", &clock, step, changes).await??;
    let echo = EchoServer::start_at(address, "e", None).await?;
    let began = seconds(&clock);
    let changes = until_state(&world, address, "healthy");
    while_time_passes("the target to be healthy", &clock, step, changes).await??;
    let passed = seconds(&clock) - began;
    assert!(passed <= 660 && echo.requests() == 1, "{passed} s, {} probes", echo.requests());
    Ok(())
}

#[tokio::test]
async fn the_time_for_draining_is_that_of_the_clock() -> Result<()> {
    let clock = Arc::new(ManualClock::default());
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let service = json!({ "read_timeout": 2_000_000_000 });
    let world = world(&clock, &one(&format!("http://{}", peer.address()), service, json!({})))?;
    let mut client = H1Client::connect(world.http()).await?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    until("the request to be served", || world.engine().totals().serving == 1).await?;
    let began = seconds(&clock);
    let engine = world.into_engine();
    let drained = tokio::task::spawn_blocking(move || engine.drain(Duration::from_secs(7_200)));
    let left = while_time_passes("draining to end", &clock, Duration::from_secs(30), drained).await??;
    let passed = seconds(&clock) - began;
    assert!(left == 1 && (7_200..1_000_000).contains(&passed), "{left} left after {passed} s");
    assert!(client.response().await.is_err());
    Ok(())
}

#[tokio::test]
async fn equal_seeds_give_equal_ids_and_choices() -> Result<()> {
    let servers = [EchoServer::start("a").await, EchoServer::start("b").await, EchoServer::start("c").await];
    let targets: Vec<_> = servers.iter().map(|server| target(server.address())).collect();
    let yaml = balanced(&targets, json!({}), json!({}));
    let run = async |seed| {
        let options = Options { workers: 1, seed: Some(seed), ..Options::default() };
        let world = World::start_with(plugins(), &yaml, &[], options)?;
        let mut client = H1Client::connect(world.http()).await?;
        let (mut ids, mut chosen) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let response = client.get("/", "a", &[]).await?;
            ids.push(response.header("x-kong-request-id").unwrap_or_default().to_owned());
            chosen.push(response.json()["server"].clone());
        }
        anyhow::Ok((ids, chosen))
    };
    let first = run(7).await?;
    assert_eq!(first.0.iter().collect::<std::collections::HashSet<_>>().len(), 12);
    assert_eq!(run(7).await?, first);
    let mut orders = std::collections::HashSet::new();
    for seed in 8..20 {
        let other = run(seed).await?;
        assert_ne!(other.0, first.0);
        orders.insert(format!("{:?}", other.1));
    }
    assert!(orders.len() > 1, "the choices depend on the seed");
    Ok(())
}
