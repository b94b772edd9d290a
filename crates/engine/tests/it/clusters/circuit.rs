//! Limits of clusters: requests above them are rejected at once, and no permit is held without being used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use cardinal_ir::policy::{CircuitLimits, Mirror, Retry, RetryBudget, RetryCondition, RoutePolicies};
use cardinal_ir::{
    Action, Backend, Cluster, Host, HttpVersion, Id, ListenerKind, Matches, Rank, Route, Target, Traffic,
};
use cardinal_testkit::{H1Client, H2Client, Response, ScriptedPeer, Step, World, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Gate, Scene, metric, shown, until};
use crate::upstream_http2::Server;

fn limited(limits: CircuitLimits) -> Cluster {
    Cluster { circuit: Some(Box::new(limits)), ..Cluster::default() }
}

fn requests(max: u32) -> Cluster {
    limited(CircuitLimits { max_requests: Some(max), ..CircuitLimits::default() })
}

async fn used(world: &World, limit: &str) -> Result<u64> {
    Ok(shown(world).await?["limits"][limit]["used"].as_u64().unwrap())
}

async fn until_used(world: &World, limit: &str, count: u64) -> Result<()> {
    until(async || Ok(used(world, limit).await? == count)).await
}

async fn get(world: &World) -> Result<Response> {
    H1Client::connect(world.http()).await?.get("/", "a", &[]).await
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_request_over_the_limit_is_rejected_at_once() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(requests(1), &[gate.address]).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    // On any worker and with either version of HTTP.
    for _ in 0..8 {
        let rejected = get(&world).await?;
        assert_eq!(rejected.status, 503);
        assert!(rejected.text().contains("Service Unavailable"), "{}", rejected.text());
    }
    let mut h2 = H2Client::connect(world.http()).await?;
    assert_eq!(h2.request("GET", "a", "/", &[], b"").await?.status, 503);
    assert_eq!(used(&world, "requests").await?, 1);
    gate.let_through(2);
    assert_eq!(first.response().await?.text(), "g");
    until_used(&world, "requests", 0).await?;
    assert_eq!(get(&world).await?.text(), "g");
    assert_eq!(gate.arrived(), 2);
    assert_eq!(metric(&world, "cardinal_failures_total{kind=\"circuit_open\"}").await?, Some(9));
    let rejected = metric(&world, "cardinal_upstream_limit_rejected_total{upstream=\"u\",limit=\"requests\"}").await?;
    assert_eq!(rejected, Some(9));
    Ok(())
}

#[tokio::test]
async fn a_place_is_free_again_however_a_request_ends() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(requests(1), &[gate.address]).start()?;
    // The client disconnects.
    let mut client = H1Client::connect(world.http()).await?;
    client.send(GET).await?;
    gate.until_arrived(1).await;
    drop(client);
    until_used(&world, "requests", 0).await?;
    // The client resets its stream.
    let mut h2 = H2Client::connect(world.http()).await?;
    let mut stream = h2.open("GET", "a", "/", &[], true).await?;
    gate.until_arrived(2).await;
    assert_eq!(used(&world, "requests").await?, 1);
    stream.reset();
    until_used(&world, "requests", 0).await?;
    // The upstream closes the connection.
    gate.answer_with(0);
    let mut client = H1Client::connect(world.http()).await?;
    client.send(GET).await?;
    gate.until_arrived(3).await;
    gate.let_through(1);
    assert_eq!(client.response().await?.status, 502);
    until_used(&world, "requests", 0).await?;
    gate.answer_with(200);
    gate.let_through(1);
    assert_eq!(get(&world).await?.text(), "g");
    Ok(())
}

#[tokio::test]
async fn streams_of_one_connection_are_counted_one_by_one() -> Result<()> {
    let (open, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate, count) = (Arc::clone(&open), Arc::clone(&arrived));
    let server = Server::start(None, move |mut exchange| {
        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
        async move {
            let number = count.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await?.forget();
            if number == 2 {
                exchange.reset(h2::Reason::INTERNAL_ERROR);
                return Ok(());
            }
            exchange.answer(200, b"two").await
        }
    })
    .await;
    let scene = Scene::new(requests(2), &[server.address()]);
    let world = scene.backends(|backend| backend.http = Some(HttpVersion::H2)).start()?;
    let mut client = H2Client::connect(world.http()).await?;
    let arrive = async |count| until(async || Ok(arrived.load(Ordering::SeqCst) >= count)).await;
    let mut first = client.open("GET", "a", "/", &[], true).await?;
    let mut second = client.open("GET", "a", "/", &[], true).await?;
    arrive(2).await?;
    assert_eq!(client.request("GET", "a", "/", &[], b"").await?.status, 503);
    open.add_permits(1);
    // Either of them.
    until_used(&world, "requests", 1).await?;
    let third = client.open("GET", "a", "/", &[], true).await?;
    arrive(3).await?;
    assert_eq!(get(&world).await?.status, 503, "another worker");
    open.add_permits(2);
    assert_eq!((first.response().await?.status, second.response().await?.status), (200, 200));
    let mut third = third;
    assert_eq!(third.response().await?.status, 502);
    until_used(&world, "requests", 0).await
}

#[tokio::test]
async fn grpc_clients_are_told_that_it_is_unavailable() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(requests(0), &[gate.address]).start()?;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let reply = H2Client::connect(world.http()).await?.request("POST", "a", "/s/m", &fields, b"").await?;
    assert_eq!((reply.status, reply.header("grpc-status")), (503, Some("14")));
    assert_eq!(reply.header("grpc-message"), Some("Service Unavailable"));
    Ok(())
}

/// A rejection does not affect the health of an endpoint.
#[tokio::test]
async fn rejections_do_not_count_against_endpoints() -> Result<()> {
    let gate = Gate::closed("g").await;
    let mut spec = requests(1);
    let counts = &mut spec.health.passive.counts;
    (counts.http_failures, counts.tcp_failures, counts.timeouts) = (1, 1, 1);
    counts.unhealthy_statuses = vec![503];
    let world = Scene::new(spec, &[gate.address]).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    for _ in 0..5 {
        assert_eq!(get(&world).await?.status, 503);
    }
    assert_eq!(shown(&world).await?["targets"][0]["health"], "HEALTHY");
    gate.let_through(2);
    first.response().await?;
    until_used(&world, "requests", 0).await?;
    assert_eq!(get(&world).await?.status, 200);
    Ok(())
}

fn connections(max: u32, pending: Option<u32>) -> Cluster {
    limited(CircuitLimits { max_connections: Some(max), max_pending: pending, ..CircuitLimits::default() })
}

#[tokio::test]
async fn requests_wait_for_a_connection_and_no_more_than_may() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(connections(1, Some(1)), &[gate.address]).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    let mut second = H1Client::connect(world.http()).await?;
    second.send(GET).await?;
    until_used(&world, "pending", 1).await?;
    assert_eq!(get(&world).await?.status, 503, "a third one");
    assert_eq!((gate.arrived(), used(&world, "connections").await?), (1, 1));
    gate.let_through(2);
    assert_eq!(first.response().await?.text(), "g");
    assert_eq!(second.response().await?.text(), "g");
    until_used(&world, "pending", 0).await?;
    assert_eq!(used(&world, "connections").await?, 1, "it is idle in a pool");
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_does_not_wait_any_longer() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(connections(1, None), &[gate.address]).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    let mut second = H1Client::connect(world.http()).await?;
    second.send(GET).await?;
    until_used(&world, "pending", 1).await?;
    drop(second);
    until_used(&world, "pending", 0).await?;
    drop(first);
    until_used(&world, "connections", 0).await
}

#[tokio::test]
async fn waiting_ends_with_the_connect_timeout() -> Result<()> {
    let gate = Gate::closed("g").await;
    let scene = Scene::new(connections(1, None), &[gate.address]).backends(|b| b.timeouts.connect_ms = 50);
    let world = scene.start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    assert_eq!(get(&world).await?.status, 503);
    let rejected = "cardinal_upstream_limit_rejected_total{upstream=\"u\",limit=\"connections\"}";
    assert_eq!(metric(&world, rejected).await?, Some(1));
    gate.let_through(1);
    assert_eq!(first.response().await?.status, 200);
    Ok(())
}

/// An idle connection to one endpoint, possibly of another worker, is closed to make room for one to another endpoint.
#[tokio::test]
async fn idle_connections_make_room() -> Result<()> {
    let (one, two) = (Gate::open("one").await, Gate::open("two").await);
    let world = Scene::new(connections(1, None), &[one.address, two.address]).start()?;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(H1Client::connect(world.http()).await?);
    }
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..5 {
        for client in &mut clients {
            *seen.entry(client.get("/", "a", &[]).await?.text()).or_insert(0) += 1;
            assert!(used(&world, "connections").await? <= 1);
        }
    }
    assert_eq!(seen.values().sum::<i32>(), 30);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn many_requests_share_few_connections() -> Result<()> {
    let gate = Gate::open("g").await;
    let world = Arc::new(Scene::new(connections(2, Some(100)), &[gate.address]).start()?);
    let many = (0..20).map(|_| async {
        let mut client = H1Client::connect(world.http()).await?;
        for _ in 0..20 {
            assert_eq!(client.get("/", "a", &[]).await?.text(), "g");
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(many).await?;
    assert_eq!(gate.arrived(), 400);
    assert!(used(&world, "connections").await? <= 2);
    assert_eq!(used(&world, "pending").await?, 0);
    assert!(gate.connections() < 400, "connections are reused: {}", gate.connections());
    Ok(())
}

#[tokio::test]
async fn connections_of_http2_are_counted_until_they_are_closed() -> Result<()> {
    let servers =
        [Server::start(None, |e| e.answer(200, b"a")).await, Server::start(None, |e| e.answer(200, b"b")).await];
    let addresses = [servers[0].address(), servers[1].address()];
    let scene = Scene::new(connections(1, None), &addresses);
    let world = scene.backends(|backend| backend.http = Some(HttpVersion::H2)).start()?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(H1Client::connect(world.http()).await?);
    }
    for _ in 0..4 {
        for client in &mut clients {
            assert_eq!(client.get("/", "a", &[]).await?.status, 200);
            assert!(used(&world, "connections").await? <= 1);
        }
    }
    Ok(())
}

#[tokio::test]
async fn retries_over_the_limit_are_not_made() -> Result<()> {
    let conditions = vec![RetryCondition::ConnectFailure];
    let retry = Arc::new(Retry { attempts: 5, conditions, ..Retry::default() });
    let gate = Gate::open("g").await;
    for (max_retries, expect) in [(None, 0), (Some(1), 0), (Some(0), 10)] {
        let dead = ([127, 0, 0, 1], free_port()).into();
        let spec = limited(CircuitLimits { max_retries, ..CircuitLimits::default() });
        let world =
            Scene::new(spec, &[dead, gate.address]).backends(|backend| backend.retry = Some(retry.clone())).start()?;
        let mut client = H1Client::connect(world.http()).await?;
        let mut failed = 0;
        for _ in 0..20 {
            failed += i32::from(client.get("/", "a", &[]).await?.status == 502);
        }
        assert_eq!(failed, expect, "{max_retries:?}");
        until_used(&world, "retries", 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn tcp_sessions_count_as_connections() -> Result<()> {
    let server = ScriptedPeer::start(vec![vec![Step::send("s\n"), Step::Drain]]).await;
    let mut scene = Scene::new(connections(1, Some(0)), &[server.address()]);
    scene.listener(ListenerKind::Stream);
    let backend = *scene.ir.backends.iter().next().unwrap().0;
    let id = cardinal_ir::Id::from_u128(900);
    let (origin, rank) = (cardinal_ir::Origin::new("test", "routes", id), Rank { weight: 0, tie: 900 });
    let (matches, traffic) = (Matches::from(cardinal_ir::Criteria::default()), Traffic::Stream);
    scene
        .ir
        .routes
        .insert(id, Route { origin, rank, matches, traffic, action: Action::Forward(backend), ..Route::default() });
    let world = scene.start()?;
    let greet = async |tcp: &mut TcpStream| {
        let mut greeting = [0; 2];
        let count = tcp.read(&mut greeting).await.unwrap_or(0);
        greeting[..count].to_vec()
    };
    let mut first = TcpStream::connect(world.stream(false)).await?;
    assert_eq!(greet(&mut first).await, b"s\n");
    let mut second = TcpStream::connect(world.stream(false)).await?;
    assert_eq!(greet(&mut second).await, b"", "closed at once");
    first.shutdown().await?;
    drop(first);
    until_used(&world, "connections", 0).await?;
    let mut third = TcpStream::connect(world.stream(false)).await?;
    assert_eq!(greet(&mut third).await, b"s\n");
    Ok(())
}

/// A tunnel counts as a request in flight until it ends, and its connection as a connection of the cluster.
#[tokio::test]
async fn tunnels_hold_their_places() -> Result<()> {
    let switch = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let peer = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(switch), Step::Drain]]).await;
    let limits = CircuitLimits { max_requests: Some(1), max_connections: Some(1), ..CircuitLimits::default() };
    let world = Scene::new(limited(limits), &[peer.address()]).start()?;
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = H1Client::connect(world.http()).await?;
    client.send(upgrade).await?;
    assert_eq!(client.head().await?.0, 101);
    assert_eq!((used(&world, "requests").await?, used(&world, "connections").await?), (1, 1));
    assert_eq!(get(&world).await?.status, 503);
    drop(client);
    until_used(&world, "requests", 0).await?;
    until_used(&world, "connections", 0).await
}

/// A changed limit applies to requests in flight, and replaces no connection.
#[tokio::test]
async fn a_limit_changes_in_place() -> Result<()> {
    let gate = Gate::closed("g").await;
    let world = Scene::new(requests(1), &[gate.address]).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    gate.until_arrived(1).await;
    assert_eq!(get(&world).await?.status, 503);
    world.serve_other(Scene::new(requests(2), &[gate.address]).configuration())?;
    let mut second = H1Client::connect(world.http()).await?;
    second.send(GET).await?;
    gate.until_arrived(2).await;
    assert_eq!(get(&world).await?.status, 503);
    gate.let_through(2);
    assert_eq!((first.response().await?.status, second.response().await?.status), (200, 200));
    until_used(&world, "requests", 0).await
}

/// Mirror copies to a cluster with a limit wait for its connections and reuse them.
#[tokio::test]
async fn copies_for_a_mirror_share_its_connections() -> Result<()> {
    let (main, copies) = (Gate::open("main").await, Gate::closed("copies").await);
    let mut scene = Scene::new(connections(1, None), &[copies.address]);
    let (copied, main_id) = (*scene.ir.backends.iter().next().unwrap().0, Id::from_u128(900));
    let target = Target::Host(Host { host: "127.0.0.1".into(), port: main.address.port() });
    let backend = Backend::clone(scene.ir.backends.get(&copied).unwrap());
    scene.ir.backends.insert(main_id, Backend { target, ..backend });
    let (id, mut route) = scene.ir.routes.iter().next().map(|(id, route)| (*id, Route::clone(route))).unwrap();
    let mirrors = vec![Mirror { backend: copied, ..Mirror::default() }];
    route.policies = Some(RoutePolicies { mirrors, ..RoutePolicies::default() }.into());
    route.action = Action::Forward(main_id);
    scene.ir.routes.insert(id, route);
    let world = scene.start()?;
    // All requests are on one worker.
    let mut client = H1Client::connect(world.http()).await?;
    for _ in 0..4 {
        assert_eq!(client.get("/", "a", &[]).await?.text(), "main");
    }
    copies.until_arrived(1).await;
    until_used(&world, "pending", 3).await?;
    copies.let_through(4);
    copies.until_arrived(4).await;
    until_used(&world, "pending", 0).await?;
    assert_eq!(copies.connections(), 1, "the connection is passed on");
    Ok(())
}

/// A retry rejected by the cluster's limit does not use the retry budget while the response is sent to the client.
#[tokio::test]
async fn a_refused_retry_does_not_use_up_the_budget() -> Result<()> {
    let head = "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nx";
    let slow = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(head), Step::Drain]]).await;
    let spec = limited(CircuitLimits { max_retries: Some(0), ..CircuitLimits::default() });
    let budget = Some(RetryBudget { percent: 0, min_concurrency: 1 });
    let retry =
        Arc::new(Retry { attempts: 1, conditions: vec![RetryCondition::ServerError], budget, ..Retry::default() });
    let scene = |spec| Scene::new(spec, &[slow.address()]).backends(|backend| backend.retry = Some(retry.clone()));
    let world = scene(spec).start()?;
    let mut first = H1Client::connect(world.http()).await?;
    first.send(GET).await?;
    assert_eq!(first.head().await?.0, 503);
    // The response is still in flight. Without the limit, the next request is retried.
    world.serve_other(scene(Cluster::default()).configuration())?;
    let mut second = H1Client::connect(world.http()).await?;
    second.send(GET).await?;
    assert_eq!(second.head().await?.0, 503);
    assert_eq!((slow.connections(), world.engine().totals().retry_budget_exhausted), (3, 0));
    Ok(())
}
