//! Zones and priorities, on nodes in different locations.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use cardinal_engine::explain::{Explainer, Question};
use cardinal_ir::policy::{
    Affinity, CircuitLimits, Detectors, FailoverRule, LocalityPolicy, OutlierDetection, Unlisted, ZonePreference,
    ZoneSet,
};
use cardinal_ir::{Cluster, Labels, Locality};
use cardinal_testkit::{H1Client, World};

use super::{CLUSTER, Gate, Scene, shown, until};
use crate::plugins;

fn zone(name: &str) -> Locality {
    Locality { zone: name.into(), ..Locality::default() }
}

fn with(preference: ZonePreference) -> Cluster {
    let policy = LocalityPolicy { zones: Some(preference), ..LocalityPolicy::default() };
    let outlier = OutlierDetection {
        base_ejection_ms: 3_600_000,
        max_ejection_percent: 100,
        detectors: Detectors { total: 1, ..Detectors::default() },
        ..OutlierDetection::default()
    };
    Cluster { locality: Some(Box::new(policy)), outlier: Some(Box::new(outlier)), ..Cluster::default() }
}

/// A node in a zone, with an endpoint in each of these zones.
fn scene(spec: Cluster, own: &str, endpoints: &[(SocketAddr, &str)]) -> Scene {
    let mut scene = Scene::new(spec, &[]);
    scene.node.locality = zone(own);
    for (address, name) in endpoints {
        scene.endpoint(*address, |endpoint| endpoint.locality = zone(name));
    }
    scene
}

/// How many of this many requests each server received.
async fn answers(world: &World, count: usize) -> Result<BTreeMap<String, usize>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen.entry(client.get("/", "a", &[]).await?.text()).or_insert(0) += 1;
    }
    Ok(seen)
}

fn all(name: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(name.to_owned(), count)])
}

#[tokio::test]
async fn another_zone_serves_only_while_the_own_one_does_not() -> Result<()> {
    let (a, b) = (Gate::open("a").await, Gate::open("b").await);
    let endpoints = [(a.address, "za"), (b.address, "zb")];
    let world = scene(with(ZonePreference::default()), "za", &endpoints).start()?;
    assert_eq!(answers(&world, 10).await?, all("a", 10));
    a.answer_with(500);
    assert_eq!(answers(&world, 10).await?, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 9)]));
    // The same records on a node in the other zone; ejections do not depend on the location of the node.
    a.answer_with(200);
    let moved = scene(with(ZonePreference::default()), "zb", &endpoints);
    world.serve_other(moved.configuration())?;
    assert_eq!(answers(&world, 10).await?, all("b", 10));
    let fresh = moved.start()?;
    assert_eq!(answers(&fresh, 10).await?, all("b", 10));
    let priorities: Vec<_> =
        shown(&fresh).await?["targets"].as_array().unwrap().iter().map(|t| t["priority"].clone()).collect();
    assert_eq!(priorities, [1, 0]);
    Ok(())
}

#[tokio::test]
async fn failover_follows_rules_and_drops_other_zones() -> Result<()> {
    let (a, b, c, d) = (Gate::open("a").await, Gate::open("b").await, Gate::open("c").await, Gate::open("d").await);
    let to = |name: &str| FailoverRule { to: ZoneSet::Only(vec![name.into()]), ..FailoverRule::default() };
    let preference =
        ZonePreference { failover: vec![to("zc"), to("zb")], unlisted: Unlisted::Unused, ..ZonePreference::default() };
    let mut spec = with(preference);
    // Without the panic threshold, to show that zd is not used.
    spec.locality.as_mut().unwrap().panic_percent = 0;
    let endpoints = [(a.address, "za"), (b.address, "zb"), (c.address, "zc"), (d.address, "zd")];
    let world = scene(spec, "za", &endpoints).start()?;
    let mut expect = vec![(&a, "a"), (&c, "c"), (&b, "b")].into_iter();
    for ejected in 1..=3 {
        let (gate, name) = expect.next().unwrap();
        assert_eq!(answers(&world, 5).await?, all(name, 5));
        gate.answer_with(500);
        assert_eq!(H1Client::connect(world.http()).await?.get("/", "a", &[]).await?.status, 500);
        until(async || Ok(shown(&world).await?["ejections"]["active"] == ejected)).await?;
    }
    let last = H1Client::connect(world.http()).await?.get("/", "a", &[]).await?;
    assert_eq!((last.status, d.arrived()), (503, 0));
    Ok(())
}

#[tokio::test]
async fn affinities_share_the_own_zone() -> Result<()> {
    let (near, far) = (Gate::open("near").await, Gate::open("far").await);
    let affinity = vec![Affinity { label: "node".into(), weight: 9 }];
    let mut scene = scene(with(ZonePreference { affinity, ..ZonePreference::default() }), "za", &[]);
    scene.node.labels = Labels::new([("node", "n1")]).unwrap();
    for (gate, node) in [(&near, "n1"), (&far, "n2")] {
        scene.endpoint(gate.address, |endpoint| {
            endpoint.locality = zone("za");
            endpoint.labels = Labels::new([("node", node)]).unwrap();
        });
    }
    let world = scene.start()?;
    let seen = answers(&world, 500).await?;
    assert!((20..85).contains(&seen["far"]), "about a tenth: {seen:?}");
    Ok(())
}

/// Moving an endpoint to another zone, or changing its priority, changes no plan.
#[tokio::test]
async fn endpoints_move_in_place() -> Result<()> {
    let (a, b) = (Gate::open("a").await, Gate::open("b").await);
    let endpoints = [(a.address, "za"), (b.address, "zb")];
    let world = scene(with(ZonePreference::default()), "za", &endpoints).start()?;
    assert_eq!(answers(&world, 6).await?, all("a", 6));
    let backend = |world: &World| {
        let plan = world.engine().plan().unwrap();
        let route = plan.group(None).http_routes.get(0).unwrap();
        std::sync::Arc::clone(route.backends().next().unwrap())
    };
    let before = backend(&world);
    world.serve_other(scene(with(ZonePreference::default()), "za", &[endpoints[1], endpoints[0]]).configuration())?;
    let swapped = [(a.address, "zb"), (b.address, "za")];
    world.serve_other(scene(with(ZonePreference::default()), "za", &swapped).configuration())?;
    assert_eq!(answers(&world, 6).await?, all("b", 6));
    assert!(std::sync::Arc::ptr_eq(&before, &backend(&world)), "the plan of the backend is the same");
    Ok(())
}

#[tokio::test]
async fn explain_tells_how_endpoints_are_chosen() -> Result<()> {
    let addresses: [SocketAddr; 2] = [([127, 0, 0, 1], 81).into(), ([127, 0, 0, 1], 82).into()];
    let mut spec = with(ZonePreference::default());
    spec.circuit =
        Some(Box::new(CircuitLimits { max_requests: Some(7), max_retries: Some(3), ..CircuitLimits::default() }));
    let mut scene = scene(spec, "za", &[(addresses[0], "zb"), (addresses[1], "za")]);
    assert!(scene.ir.clusters.contains(&CLUSTER));
    scene.route("/v1", Labels::new([("version", "v1")]).unwrap(), |_| {});
    let explained = async |url: &str, scene: &Scene| -> Result<_> {
        let (explainer, _) = Explainer::new(scene.configuration(), plugins())?;
        let question = Question { method: "GET".into(), url: url.into(), ..Question::default() };
        Ok(explainer.decide(&question, 0).await?)
    };
    let decision = explained("http://a/", &scene).await?;
    let expect = "round-robin over 127.0.0.1:81 weight 100 priority 1, 127.0.0.1:82 weight 100 priority 0; \
                  overprovisioning 140 %, panic below 50 %; outliers are ejected by total; at most 7 requests, 3 retries";
    assert_eq!(decision.balancer.as_deref(), Some(expect));
    assert_eq!(decision.upstream_host.as_deref(), Some("127.0.0.1:82"));
    // The subset is empty.
    assert_eq!(explained("http://a/v1", &scene).await?.reply.map(|(status, _)| status), Some(503));
    scene.endpoint(addresses[0], |endpoint| endpoint.labels = Labels::new([("version", "v1")]).unwrap());
    let decision = explained("http://a/v1", &scene).await?;
    let balancer = decision.balancer.unwrap();
    let start = "round-robin over 127.0.0.1:81 weight 100 priority 1; subset version=v1; overprovisioning 140 %";
    assert!(balancer.starts_with(start), "{balancer}");
    Ok(())
}
