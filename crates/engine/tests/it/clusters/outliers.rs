//! Endpoints that fail real traffic are ejected, and return.

use anyhow::Result;
use cardinal_ir::policy::{Detectors, Fault, FaultBandwidth, LocalityPolicy, OutlierDetection, PolicySpec};
use cardinal_ir::{Cluster, Id, Origin, Policy};
use cardinal_testkit::{EchoServer, H1Client, World, free_port};

use super::{Gate, Scene, metric, shown, until};

fn outlier(detectors: Detectors, base_ejection_ms: u64) -> OutlierDetection {
    OutlierDetection {
        interval_ms: 10,
        base_ejection_ms,
        max_ejection_percent: 50,
        detectors,
        ..OutlierDetection::default()
    }
}

fn with(outlier: OutlierDetection) -> Cluster {
    Cluster { outlier: Some(Box::new(outlier)), ..Cluster::default() }
}

fn total(count: u32) -> Detectors {
    Detectors { total: count, ..Detectors::default() }
}

/// Statuses of this many requests.
async fn statuses(world: &World, count: usize) -> Result<Vec<u16>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get("/", "a", &[]).await?.status);
    }
    Ok(statuses)
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|s| **s == status).count()
}

#[tokio::test]
async fn one_that_answers_with_500_is_ejected() -> Result<()> {
    let (good, bad) = (Gate::open("good").await, Gate::open("bad").await);
    bad.answer_with(500);
    let world = Scene::new(with(outlier(total(3), 3_600_000)), &[good.address, bad.address]).start()?;
    let seen = statuses(&world, 40).await?;
    assert_eq!(count(&seen, 500), 3, "{seen:?}");
    let upstream = shown(&world).await?;
    assert_eq!(upstream["ejections"]["made"]["total"], 1);
    let target = &upstream["targets"][1];
    assert_eq!(target["target"], bad.address.to_string());
    assert_eq!(target["addresses"][0]["ejection"]["detector"], "total");
    assert_eq!(
        (&target["health"], &upstream["targets"][0]["addresses"][0]["ejection"]),
        (&"HEALTHCHECKS_OFF".into(), &().into())
    );
    let made = metric(&world, "cardinal_upstream_ejections_total{upstream=\"u\",detector=\"total\"}").await?;
    let active = metric(&world, "cardinal_upstream_ejections_active{upstream=\"u\"}").await?;
    assert_eq!((made, active), (Some(1), Some(1)));
    // Changing other records, or other endpoints, does not end the ejection.
    let mut scene = Scene::new(with(outlier(total(3), 3_600_000)), &[good.address, bad.address]);
    scene.route("/other", Default::default(), |_| {});
    world.serve_other(scene.configuration())?;
    assert_eq!(count(&statuses(&world, 20).await?, 500), 0);
    Ok(())
}

#[tokio::test]
async fn it_returns_by_itself() -> Result<()> {
    let (good, bad) = (Gate::open("good").await, Gate::open("bad").await);
    bad.answer_with(503);
    let world = Scene::new(with(outlier(total(2), 50)), &[good.address, bad.address]).start()?;
    until(async || {
        Ok(!shown(&world).await?["targets"][1]["addresses"][0]["ejection"].is_null() || {
            statuses(&world, 2).await?;
            false
        })
    })
    .await?;
    bad.answer_with(200);
    until(async || Ok(shown(&world).await?["ejections"]["active"] == 0)).await?;
    let before = bad.arrived();
    assert_eq!(count(&statuses(&world, 10).await?, 200), 10);
    assert_eq!(bad.arrived() - before, 5);
    Ok(())
}

#[tokio::test]
async fn failures_to_connect_count_as_statuses_or_by_themselves() -> Result<()> {
    let good = Gate::open("good").await;
    let local = Detectors { local_origin: 2, ..Detectors::default() };
    let gateway = Detectors { gateway: 2, ..Detectors::default() };
    for (split, detectors, label) in [(false, gateway, "gateway"), (true, local, "local_origin")] {
        let dead = ([127, 0, 0, 1], free_port()).into();
        let outlier = OutlierDetection { split_local_origin: split, ..outlier(detectors, 3_600_000) };
        let world = Scene::new(with(outlier), &[dead, good.address]).start()?;
        let seen = statuses(&world, 30).await?;
        assert_eq!(count(&seen, 502), 2, "{seen:?}");
        assert_eq!(shown(&world).await?["ejections"]["made"][label], 1);
    }
    Ok(())
}

/// Only one of three endpoints may be ejected: the others keep failing.
#[tokio::test]
async fn no_more_are_ejected_than_may_be() -> Result<()> {
    let gates = [Gate::open("a").await, Gate::open("b").await, Gate::open("c").await];
    gates.iter().for_each(|gate| gate.answer_with(500));
    let addresses = gates.each_ref().map(|gate| gate.address);
    let world = Scene::new(with(outlier(total(1), 3_600_000)), &addresses).start()?;
    assert_eq!(count(&statuses(&world, 12).await?, 500), 12);
    let ejections = shown(&world).await?["ejections"].clone();
    assert_eq!((&ejections["active"], &ejections["made"]["total"]), (&1.into(), &1.into()));
    assert!(ejections["prevented"].as_u64().unwrap() > 5);
    Ok(())
}

#[tokio::test]
async fn a_panic_uses_what_is_ejected() -> Result<()> {
    let gate = Gate::open("only").await;
    gate.answer_with(500);
    let spec = with(outlier(total(1), 3_600_000));
    let world = Scene::new(spec.clone(), &[gate.address]).start()?;
    assert_eq!(statuses(&world, 3).await?, [500, 503, 503], "without a panic threshold nothing is left");
    let panic = Cluster { locality: Some(Box::new(LocalityPolicy::default())), ..spec };
    world.serve_other(Scene::new(panic, &[gate.address]).configuration())?;
    gate.answer_with(200);
    assert_eq!(statuses(&world, 3).await?, [200, 200, 200]);
    let upstream = shown(&world).await?;
    assert_eq!((&upstream["panics"], &upstream["ejections"]["active"]), (&true.into(), &1.into()));
    assert_eq!(metric(&world, "cardinal_upstream_panics{upstream=\"u\"}").await?, Some(1));
    Ok(())
}

/// A client that does not read its response, or a rate limit on it, can make a request time out. The endpoint is not
/// the cause; otherwise clients could eject it.
#[tokio::test]
async fn slow_clients_do_not_eject_endpoints() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let outlier = OutlierDetection { max_ejection_percent: 100, ..outlier(total(1), 3_600_000) };
    let scene = Scene::new(with(outlier), &[echo.address()]).backends(|backend| backend.timeouts.request_ms = 300);
    let mut throttled = scene.clone();
    let bandwidth = Some(FaultBandwidth { bytes_per_second: 10, percent: 100.0 });
    let (id, spec) = (Id::from_u128(900), PolicySpec::Fault(Fault { bandwidth, ..Fault::default() }));
    throttled.ir.policies.insert(id, Policy { origin: Origin::new("test", "policies", id), spec, ..Policy::default() });
    for (scene, bytes) in [(scene, 100_000_000), (throttled, 10_000)] {
        let world = scene.start()?;
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: bytes:{bytes}\r\n\r\n")).await?;
        let timed_out = "cardinal_failures_total{kind=\"upstream_timeout\"}";
        until(async || Ok(metric(&world, timed_out).await? == Some(1))).await?;
        assert_eq!(shown(&world).await?["ejections"]["made"]["total"], 0, "{bytes}");
    }
    Ok(())
}
