//! Hot reload under load, without affecting clients.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use cardinal_schema::{Schema, field, integer};
use cardinal_sdk::{FailureMode, Filter, Flow, HTTP_PROTOCOLS, HeadCx, Phases, PluginDef, Scopes};
use cardinal_testkit::{EchoServer, H1Client, H2Client, ScriptedPeer, Socket, Step, WebSocket, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::scene::eventually;
use crate::{plugins, scene};

#[allow(clippy::disallowed_methods, reason = "the test wants the task's outcome")]
fn spawn(task: impl Future<Output = Result<()>> + Send + 'static) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(task)
}

/// Generation `n`: its number is in a response header.
fn file(url: &str, n: u32) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: s\n  url: {url}\n  routes:\n  - name: r\n    paths: [/]\n    plugins:\n    - name: response-transformer\n      config: {{add: {{headers: [\"X-Generation:{n}\", \"X-Again:{n}\"]}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_fail_no_request() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = Arc::new(World::start(plugins(), &file(&echo.url(), 0), &[])?);
    let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (world, stop, requests) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&requests));
        tasks.push(spawn(async move {
            let mut client = H1Client::connect(world.http()).await?;
            let mut last = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let response = client.get("/", "a", &[]).await?;
                ensure!(response.status == 200, "{}", response.status);
                let (one, two) = (response.header("x-generation"), response.header("x-again"));
                ensure!(one == two, "a request saw two generations: {one:?} {two:?}");
                let seen: u32 = one.unwrap_or_default().parse()?;
                ensure!(seen >= last, "generations went back");
                last = seen;
                requests.fetch_add(1, Ordering::Relaxed);
                if response.header("connection") == Some("close") {
                    // A connection serves a limited number of requests.
                    client = H1Client::connect(world.http()).await?;
                }
            }
            anyhow::Ok(())
        }));
    }
    {
        let (world, stop, requests) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&requests));
        tasks.push(spawn(async move {
            let mut client = H2Client::connect(world.http()).await?;
            // One stream stays open all the time, on a separate connection.
            let mut other = H2Client::connect(world.http()).await?;
            let mut long = other.open("POST", "a", "/long", &[("x-echo", "body:echo")], false).await?;
            long.send(b"first", false).await?;
            let (status, _) = long.head().await?;
            ensure!(status == 200);
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                if count.is_multiple_of(5_000) {
                    // A connection serves a limited number of requests.
                    client = H2Client::connect(world.http()).await?;
                }
                let response = client.request("GET", "a", "/", &[], b"").await?;
                ensure!(response.status == 200, "{}", response.status);
                requests.fetch_add(1, Ordering::Relaxed);
            }
            long.send(b" last", true).await?;
            let mut bytes = Vec::new();
            while let Some(part) = long.part().await? {
                bytes.extend_from_slice(&part);
            }
            ensure!(bytes == b"first last", "{bytes:?}");
            anyhow::Ok(())
        }));
    }
    {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        tasks.push(spawn(async move {
            let mut socket = WebSocket::open(H1Client::connect(world.http()).await?, "/ws", "a", &[]).await?;
            while !stop.load(Ordering::Relaxed) {
                socket.send_text("hello").await?;
                let frame = socket.next().await?;
                ensure!(frame.is_some_and(|f| f.payload == b"hello"));
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        }));
    }
    let (reloading, url) = (Arc::clone(&world), echo.url());
    let reloads =
        tokio::task::spawn_blocking(move || (1..=1000).try_for_each(|n| reloading.apply(&file(&url, n)).map(|_| ())));
    reloads.await??;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    assert!(requests.load(Ordering::Relaxed) > 100, "{requests:?}");
    assert_eq!(world.engine().plan().map(|plan| plan.generation), Some(1001));
    Ok(())
}

#[tokio::test]
async fn a_bad_file_changes_nothing() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), 1), &[])?;
    assert!(world.apply("_format_version: \"3.0\"\nservices: 5\n").is_err());
    let mut client = H1Client::connect(world.http()).await?;
    assert_eq!(client.get("/", "a", &[]).await?.header("x-generation"), Some("1"));
    Ok(())
}

#[tokio::test]
async fn draining_ends_when_requests_have() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let world = World::start(plugins(), &file(&echo.url(), 1), &[])?;
    let address = world.http();
    let mut busy = H1Client::connect(address).await?;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: delay:300\r\n\r\n").await?;
    let mut idle = H1Client::connect(address).await?;
    assert_eq!(idle.get("/", "a", &[]).await?.status, 200);
    let serves = || world.engine().totals().serving == 1;
    cardinal_testkit::until("the request to be served", serves).await?;
    let engine = world.into_engine();
    let drained = tokio::task::spawn_blocking(move || engine.drain(Duration::from_secs(10)));
    let response = busy.response().await?;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(drained.await?, 0, "nobody was cut off");
    assert!(idle.get("/", "a", &[]).await.is_err());
    assert!(H1Client::connect(address).await.is_err());
    Ok(())
}

/// A connection accepted by the kernel is served, even if no worker has accepted it yet.
#[tokio::test]
async fn connections_in_the_queue_are_served_when_the_node_stops() -> Result<()> {
    let echo = EchoServer::start("e").await;
    for round in 0..5 {
        let world = World::start(plugins(), &file(&echo.url(), 1), &[])?;
        let address = world.http();
        let engine = world.into_engine();
        let outcome = tokio::task::spawn_blocking(move || {
            let mut clients: Vec<TcpStream> =
                (0..200).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
            let drained = std::thread::spawn(move || engine.drain(Duration::from_secs(10)));
            let mut failed = 0;
            for client in &mut clients {
                let mut answer = Vec::new();
                let asked = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                let read = asked.and_then(|()| client.read_to_end(&mut answer));
                failed += u32::from(read.is_err() || !answer.starts_with(b"HTTP/1.1 200"));
            }
            std::io::Result::Ok((failed, drained.join().is_ok_and(|cut| cut == 0)))
        });
        assert_eq!(outcome.await??, (0, true), "round {round}");
    }
    Ok(())
}

/// The names of the threads that dropped a filter of [`PROBE`].
static FREED_ON: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records the thread on which it is freed, as a part of a generation.
struct Probe;

impl Filter for Probe {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, _cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        Flow::Continue
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        FREED_ON.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
    }
}

static PROBE: PluginDef = PluginDef {
    name: "probe",
    summary: "Notes the thread that frees it.",
    priority: 1,
    schema: || Schema::new([field("generation", integer())]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: |_, _| Ok(Arc::new(Probe)),
    lower: None,
};

static PROBES: &[&PluginDef] = &[&PROBE];

/// Generation `n`: all instances differ from those of other generations.
fn probed(url: &str, n: u32) -> String {
    let plugin = json!([{ "name": "probe", "config": { "generation": n } }]);
    let route =
        |number: u32| json!({ "name": format!("r{number}"), "paths": [format!("/{number}")], "plugins": plugin });
    let routes: Vec<_> = (0..20).map(route).collect();
    scene::file(json!({ "services": [{ "name": "s", "url": url, "routes": routes }], "plugins": plugin }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_frees_a_generation() -> Result<()> {
    const GENERATIONS: u32 = 50;
    let echo = EchoServer::start("e").await;
    let world = Arc::new(World::start(PROBES, &probed(&echo.url(), 0), &[])?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for number in 0..4 {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        tasks.push(spawn(async move {
            let mut client = H1Client::connect(world.http()).await?;
            while !stop.load(Ordering::Relaxed) {
                let delay = if number == 0 { "delay:20" } else { "" };
                let response = client.get("/7", "a", &[("X-Echo", delay)]).await?;
                ensure!(response.status == 200, "{}", response.status);
                if response.header("connection") == Some("close") {
                    client = H1Client::connect(world.http()).await?;
                }
            }
            anyhow::Ok(())
        }));
    }
    let (reloading, url) = (Arc::clone(&world), echo.url());
    let reloads = tokio::task::spawn_blocking(move || {
        (1..=GENERATIONS).try_for_each(|n| {
            // Each generation serves requests.
            let served = || reloading.engine().totals().requests;
            let before = served();
            cardinal_testkit::until_some_blocking("a request", || (served() > before).then_some(()))?;
            reloading.apply(&probed(&url, n)).map(|_| ())
        })
    });
    reloads.await??;
    // All but the last generation are freed while requests go on.
    let freed = || FREED_ON.lock().unwrap().len();
    assert!(scene::eventually(|| freed() >= 21 * GENERATIONS as usize).await, "{} were freed", freed());
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let threads: HashSet<String> = FREED_ON.lock().unwrap().iter().cloned().collect();
    assert_eq!(threads, HashSet::from(["planner-bulk".to_owned()]));
    Ok(())
}

/// Long-lived tunnels and sessions must not keep the routes of the generation in which they began.
#[tokio::test]
async fn tunnels_and_sessions_hold_no_replaced_configuration() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let peer = ScriptedPeer::start(vec![vec![Step::send("hello"), Step::until("bye"), Step::send("bye")]]).await;
    let file = |number: u32| {
        let mut file: Value = json!({"_format_version": "3.0", "services": [{"name": "s", "url": echo.url(),
            "routes": [{"name": "r", "paths": ["/"], "tags": [number.to_string()]}]}]});
        file["services"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "bytes", "url": format!("tcp://{}", peer.address()),
            "routes": [{"name": "bytes", "protocols": ["tcp"], "sources": [{"ip": "127.0.0.1"}]}]}));
        file.to_string()
    };
    let world = World::start(plugins(), &file(1), &[("stream_listen", "127.0.0.1:0")])?;
    let mut socket = WebSocket::open(H1Client::connect(world.http()).await?, "/ws", "a", &[]).await?;
    let mut bytes = Socket::connect(world.stream(false)).await?;
    let mut hello = [0; 5];
    bytes.read_exact(&mut hello).await?;
    for number in 2..5 {
        world.apply(&file(number))?;
        assert!(eventually(|| world.engine().retired_plans() == 0).await, "{}", world.engine().retired_plans());
        socket.send_text("hello").await?;
        assert!(socket.next().await?.is_some_and(|frame| frame.payload == b"hello"));
    }
    let active = || world.engine().services().node.connections().writing;
    assert_eq!(active(), 1, "the tunnel counts as a request");
    bytes.write_all(b"bye").await?;
    bytes.read_exact(&mut hello[..3]).await?;
    assert_eq!(&hello[..3], b"bye");
    drop((socket, bytes));
    assert!(eventually(|| active() == 0).await);
    Ok(())
}
