//! Names of backends: hosts file, DNS, and changes of names.

mod zone;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use cardinal_base::ManualClock;
use cardinal_engine::Options;
use cardinal_testkit::{EchoServer, H1Client, TempDir, World, until_some, while_time_passes};
use serde_json::json;

use crate::plugins;
use crate::scene::{JSON, balanced, eventually, health, one, outcome};
use zone::Zone;

/// Two backends on one port of different addresses, named after their addresses.
async fn pair() -> Result<(EchoServer, EchoServer, u16)> {
    for _ in 0..20 {
        let first = EchoServer::start("127.0.0.1").await;
        let port = first.address().port();
        if let Ok(second) = EchoServer::start_at(SocketAddr::from(([127, 0, 0, 2], port)), "127.0.0.2", None).await {
            return Ok((first, second, port));
        }
    }
    anyhow::bail!("no port is free at both addresses")
}

/// How many of this many requests on one connection each backend received.
async fn counts(world: &World, requests: usize) -> Result<BTreeMap<String, usize>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = client.get("/", "a", &[]).await?;
        ensure!(response.status == 200, "{}", response.text());
        *counts.entry(response.json()["server"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

async fn refusal(world: &World) -> Result<(u16, String)> {
    Ok(outcome(&H1Client::connect(world.http()).await?.get("/", "a", &[JSON]).await?))
}

#[tokio::test]
async fn the_hosts_file_comes_first() -> Result<()> {
    let (_first, _second, port) = pair().await?;
    let zone = Zone::start().await;
    zone.addresses("known.test", 30, &["127.0.0.1"]);
    let folder = TempDir::new("hosts");
    let hosts = folder.write("hosts", "127.0.0.2 Known.test # here\n::1 other.test\n");
    let resolver = zone.resolver();
    let settings = [("dns_hostsfile", hosts.to_str().unwrap_or_default()), ("dns_resolver", resolver.as_str())];
    let by_host = World::start(plugins(), &one(&format!("http://KNOWN.test:{port}"), json!({}), json!({})), &settings)?;
    assert_eq!(counts(&by_host, 4).await?, expected(&[("127.0.0.2", 4)]));
    let targets = [(format!("known.test:{port}"), 10)];
    let by_target = World::start(plugins(), &balanced(&targets, json!({}), json!({})), &settings)?;
    assert_eq!(counts(&by_target, 4).await?, expected(&[("127.0.0.2", 4)]));
    Ok(())
}

#[tokio::test]
async fn all_addresses_of_a_name_take_turns() -> Result<()> {
    let (_first, _second, port) = pair().await?;
    let zone = Zone::start().await;
    zone.addresses("two.test", 30, &["127.0.0.1", "127.0.0.2"]);
    let resolver = zone.resolver();
    let settings = [("dns_resolver", resolver.as_str())];
    let by_host = World::start(plugins(), &one(&format!("http://two.test:{port}"), json!({}), json!({})), &settings)?;
    assert_eq!(counts(&by_host, 10).await?, expected(&[("127.0.0.1", 5), ("127.0.0.2", 5)]));
    let seen = H1Client::connect(by_host.http()).await?.get("/", "a", &[]).await?.json();
    assert_eq!(seen["authority"], format!("two.test:{port}"));
    // Each address has the whole weight of its target.
    let targets = [(format!("two.test:{port}"), 10), (format!("127.0.0.1:{port}"), 10)];
    let checks = json!({ "healthchecks": { "passive": { "unhealthy": { "tcp_failures": 1 } } } });
    let by_target = World::start(plugins(), &balanced(&targets, checks, json!({})), &settings)?;
    let resolved = || health(by_target.engine()).len() == 3;
    ensure!(eventually(resolved).await, "{:?}", health(by_target.engine()));
    assert_eq!(counts(&by_target, 9).await?, expected(&[("127.0.0.1", 6), ("127.0.0.2", 3)]));
    Ok(())
}

#[tokio::test]
async fn services_bring_ports_and_weights() -> Result<()> {
    let (one_echo, two) = (EchoServer::start("one").await, EchoServer::start("two").await);
    let zone = Zone::start().await;
    zone.addresses("here.test", 30, &["127.0.0.1"]);
    let spare = EchoServer::start("spare").await;
    let port = |echo: &EchoServer| echo.address().port();
    let services =
        [(10, 3, port(&one_echo), "here.test"), (10, 1, port(&two), "here.test"), (20, 100, port(&spare), "here.test")];
    zone.services("srv.test", 30, &services);
    let resolver = zone.resolver();
    let settings = [("dns_resolver", resolver.as_str())];
    for yaml in [
        one("http://srv.test:1", json!({}), json!({})),
        balanced(&[("srv.test:1".to_owned(), 7)], json!({}), json!({})),
    ] {
        let world = World::start(plugins(), &yaml, &settings)?;
        assert_eq!(counts(&world, 40).await?, expected(&[("one", 30), ("two", 10)]), "{yaml}");
    }
    let named = balanced(&[("srv.test:1".to_owned(), 7)], json!({ "use_srv_name": true }), json!({}));
    let world = World::start(plugins(), &named, &settings)?;
    let seen = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.json();
    assert!(seen["authority"].as_str().is_some_and(|host| host.starts_with("here.test:")), "{}", seen["authority"]);
    Ok(())
}

#[tokio::test]
async fn traffic_follows_changed_answers() -> Result<()> {
    let (_first, _second, port) = pair().await?;
    let zone = Zone::start().await;
    zone.addresses("moves.test", 1, &["127.0.0.1"]);
    let resolver = zone.resolver();
    let settings = [("dns_resolver", resolver.as_str())];
    let targets = [(format!("moves.test:{port}"), 10)];
    let clock = Arc::new(ManualClock::default());
    let start = |yaml: String| {
        let options = Options { clock: Some(clock.clone()), ..Options::default() };
        World::start_with(plugins(), &yaml, &settings, options)
    };
    let by_host = start(one(&format!("http://moves.test:{port}"), json!({}), json!({})))?;
    let by_target = start(balanced(&targets, json!({}), json!({})))?;
    for world in [&by_host, &by_target] {
        assert_eq!(counts(world, 3).await?, expected(&[("127.0.0.1", 3)]));
    }
    zone.addresses("moves.test", 1, &["127.0.0.2"]);
    let moved = expected(&[("127.0.0.2", 1)]);
    for world in [&by_host, &by_target] {
        let is_moved = async || (counts(world, 1).await.ok()? == moved).then_some(());
        let used = until_some("the new address to be used", is_moved);
        while_time_passes("the new address to be used", &clock, Duration::from_millis(10), used).await??;
        assert_eq!(counts(world, 3).await?, expected(&[("127.0.0.2", 3)]), "and nothing else from then on");
    }
    // A DNS timeout has no effect while stale answers may be served.
    drop(zone);
    clock.advance(Duration::from_millis(1_200));
    assert_eq!(counts(&by_target, 3).await?, expected(&[("127.0.0.2", 3)]));
    Ok(())
}

#[tokio::test]
async fn names_without_addresses_are_answered_for() -> Result<()> {
    let (_first, _second, port) = pair().await?;
    let zone = Zone::start().await;
    let resolver = zone.resolver();
    let settings = [("dns_resolver", resolver.as_str()), ("dns_not_found_ttl", "1"), ("dns_error_ttl", "1")];
    let no_name = (503, "name resolution failed".to_owned());
    let clock = Arc::new(ManualClock::default());
    let options = Options { clock: Some(clock.clone()), ..Options::default() };
    let yaml = one(&format!("http://late.test:{port}"), json!({}), json!({}));
    let unknown = World::start_with(plugins(), &yaml, &settings, options)?;
    assert_eq!(refusal(&unknown).await?, no_name);
    let broken = World::start(plugins(), &one("http://broken.test:1", json!({}), json!({})), &settings)?;
    assert_eq!(refusal(&broken).await?, (500, "An unexpected error occurred".to_owned()));
    let targets = [("nobody.test:1".to_owned(), 10), (format!("127.0.0.1:{port}"), 10)];
    let partly = World::start(plugins(), &balanced(&targets, json!({}), json!({ "retries": 0 })), &settings)?;
    assert_eq!(counts(&partly, 4).await?, expected(&[("127.0.0.1", 4)]), "the others serve");
    zone.addresses("late.test", 30, &["127.0.0.2"]);
    assert_eq!(refusal(&unknown).await?, no_name, "the failure is remembered for a while");
    clock.advance(Duration::from_millis(1_100));
    let found = until_some("the name to be found", async || (refusal(&unknown).await.ok()?.0 == 200).then_some(()));
    while_time_passes("the name to be found", &clock, Duration::from_millis(10), found).await?
}

#[tokio::test]
async fn an_address_that_does_not_answer_has_a_neighbour_that_does() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let port = echo.address().port();
    let zone = Zone::start().await;
    zone.addresses("six.test", 30, &["::1"]);
    zone.addresses("four.test", 30, &["127.0.0.1"]);
    zone.services("both.test", 30, &[(1, 1, port, "six.test"), (1, 1, port, "four.test")]);
    let resolver = zone.resolver();
    let settings = [("dns_resolver", resolver.as_str()), ("dns_order", "SRV,A,AAAA")];
    let yaml = one("http://both.test", json!({ "retries": 0 }), json!({}));
    let world = World::start(plugins(), &yaml, &settings)?;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = H1Client::connect(world.http()).await?;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: delay:30\r\n\r\n").await?;
        clients.push(client);
    }
    for mut client in clients {
        assert_eq!(client.response().await?.status, 200, "both families are tried at once");
    }
    Ok(())
}
