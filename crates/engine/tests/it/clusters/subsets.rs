//! Backends for subsets of one cluster.

use anyhow::Result;
use cardinal_ir::policy::{Detectors, OutlierDetection, SubsetFallback};
use cardinal_ir::{Cluster, Labels};
use cardinal_testkit::{H1Client, World};

use super::{Gate, Scene, shown};
use crate::scene::outcome;

fn version(name: &str) -> Labels {
    Labels::new([("version", name)]).unwrap()
}

/// Routes to versions 1 and 2, and to all.
fn scene(spec: Cluster, gates: &[(&Gate, &str)]) -> Scene {
    let mut scene = Scene::new(spec, &[]);
    for (gate, name) in gates {
        scene.endpoint(gate.address, |endpoint| {
            endpoint.labels = Labels::new([("version", *name), ("app", "a")]).unwrap();
        });
    }
    scene.route("/v1", version("v1"), |_| {});
    scene.route("/v2", version("v2"), |_| {});
    scene
}

async fn answers(world: &World, path: &str, count: usize) -> Result<Vec<String>> {
    let mut client = H1Client::connect(world.http()).await?;
    let mut seen = Vec::new();
    for _ in 0..count {
        let response = client.get(path, "a", &[]).await?;
        seen.push(if response.status == 200 { response.text() } else { response.status.to_string() });
    }
    seen.sort();
    Ok(seen)
}

#[tokio::test]
async fn a_route_goes_to_the_endpoints_of_its_subset() -> Result<()> {
    let (one, two, three) = (Gate::open("1a").await, Gate::open("1b").await, Gate::open("2").await);
    let world = scene(Cluster::default(), &[(&one, "v1"), (&two, "v1"), (&three, "v2")]).start()?;
    assert_eq!(answers(&world, "/v1", 6).await?, ["1a", "1a", "1a", "1b", "1b", "1b"]);
    assert_eq!(answers(&world, "/v2", 3).await?, ["2", "2", "2"]);
    assert_eq!(answers(&world, "/", 3).await?, ["1a", "1b", "2"]);
    Ok(())
}

#[tokio::test]
async fn a_subset_without_endpoints_fails_or_uses_all() -> Result<()> {
    let one = Gate::open("1").await;
    let spec = |subset_fallback| Cluster { subset_fallback, ..Cluster::default() };
    let world = scene(spec(SubsetFallback::Fail), &[(&one, "v1")]).start()?;
    let refused = H1Client::connect(world.http()).await?.get("/v2", "a", &[crate::scene::JSON]).await?;
    assert_eq!(outcome(&refused), (503, "no upstream available".to_owned()));
    assert_eq!(answers(&world, "/v1", 1).await?, ["1"]);
    world.serve_other(scene(spec(SubsetFallback::AnyEndpoint), &[(&one, "v1")]).configuration())?;
    assert_eq!(answers(&world, "/v2", 2).await?, ["1", "1"]);
    Ok(())
}

/// An address ejected by one subset is ejected for all.
#[tokio::test]
async fn ejections_are_shared() -> Result<()> {
    let (one, two) = (Gate::open("1").await, Gate::open("2").await);
    let outlier = OutlierDetection {
        base_ejection_ms: 3_600_000,
        detectors: Detectors { total: 1, ..Detectors::default() },
        ..OutlierDetection::default()
    };
    let spec = Cluster { outlier: Some(Box::new(outlier)), ..Cluster::default() };
    let world = scene(spec, &[(&one, "v1"), (&two, "v2")]).start()?;
    two.answer_with(500);
    assert_eq!(answers(&world, "/v2", 3).await?, ["500", "503", "503"]);
    assert_eq!(answers(&world, "/", 3).await?, ["1", "1", "1"]);
    assert_eq!(shown(&world).await?["ejections"]["active"], 1);
    Ok(())
}

/// Changing labels moves an endpoint to another subset without changing a plan.
#[tokio::test]
async fn labels_change_in_place() -> Result<()> {
    let (one, two) = (Gate::open("1").await, Gate::open("2").await);
    let world = scene(Cluster::default(), &[(&one, "v1"), (&two, "v1")]).start()?;
    let backends = |world: &World| {
        let plan = world.engine().plan().unwrap();
        let routes = (0..3).filter_map(|slot| plan.group(None).http_routes.get(slot));
        routes.map(|route| std::sync::Arc::as_ptr(route.backends().next().unwrap()) as usize).collect::<Vec<_>>()
    };
    let before = backends(&world);
    assert_eq!(before.len(), 3);
    assert_eq!(answers(&world, "/v2", 1).await?, ["503"]);
    for (first, second, expect) in [("v1", "v2", "2"), ("v2", "v1", "1")] {
        world.serve_other(scene(Cluster::default(), &[(&one, first), (&two, second)]).configuration())?;
        assert_eq!(answers(&world, "/v2", 2).await?, [expect, expect]);
    }
    assert_eq!(before, backends(&world));
    // The cluster is removed and added again, with new state.
    let nothing = Scene { ir: Default::default(), ..scene(Cluster::default(), &[]) };
    world.serve_other(nothing.configuration())?;
    world.serve_other(scene(Cluster::default(), &[(&one, "v1"), (&two, "v2")]).configuration())?;
    assert_eq!(answers(&world, "/v2", 2).await?, ["2", "2"]);
    Ok(())
}
