//! Policies of clusters, with records built by the tests.

mod circuit;
mod localities;
mod outliers;
mod subsets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use cardinal_base::task;
use cardinal_engine::Configuration;
use cardinal_ir::{
    Action, Backend, Cluster, Criteria, Endpoint, Host, HttpVersion, Id, Ir, Labels, Listener, ListenerKind, Matches,
    NodeSettings, Origin, PathMatch, Rank, Route, Target, Timeouts,
};
use cardinal_testkit::{H1Client, World};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::plugins;

/// Records, and the settings of the node.
#[derive(Clone, Default)]
pub(crate) struct Scene {
    pub(crate) ir: Ir,
    pub(crate) node: NodeSettings,
}

/// The cluster of most scenes.
pub(crate) const CLUSTER: Id = Id::from_u128(1);

fn origin(kind: &'static str, id: Id) -> Origin {
    let mut origin = Origin::new("test", kind, id);
    origin.name = Some("u".into());
    origin
}

impl Scene {
    /// A node with an HTTP and a status listener that sends everything to the cluster.
    pub(crate) fn new(spec: Cluster, endpoints: &[SocketAddr]) -> Self {
        let mut scene = Self::default();
        scene.listener(ListenerKind::Http);
        scene.listener(ListenerKind::Status);
        scene.ir.clusters.insert(CLUSTER, Cluster { origin: origin("upstreams", CLUSTER), ..spec });
        for address in endpoints {
            scene.endpoint(*address, |_| {});
        }
        scene.route("/", Labels::default(), |_| {});
        scene
    }

    pub(crate) fn listener(&mut self, kind: ListenerKind) {
        self.node.listeners.push(Listener {
            name: format!("{kind:?}").into(),
            address: ([127, 0, 0, 1], 0).into(),
            kind,
            http2: kind == ListenerKind::Http,
            ..Listener::default()
        });
    }

    /// Adds an endpoint to the cluster.
    pub(crate) fn endpoint(&mut self, address: SocketAddr, change: impl FnOnce(&mut Endpoint)) -> Id {
        let id = Id::from_u128(100 + self.ir.endpoints.len() as u128);
        let host = Host { host: address.ip().to_string().into(), port: address.port() };
        let mut endpoint = Endpoint { origin: origin("targets", id), cluster: CLUSTER, host, ..Endpoint::default() };
        change(&mut endpoint);
        self.ir.endpoints.insert(id, endpoint);
        id
    }

    /// A route for a path, with its own backend.
    pub(crate) fn route(&mut self, path: &str, subset: Labels, change: impl FnOnce(&mut Backend)) {
        let number = self.ir.routes.len() as u128;
        let (backend_id, id) = (Id::from_u128(200 + number), Id::from_u128(300 + number));
        let mut backend = Backend {
            origin: origin("services", backend_id),
            http: Some(HttpVersion::H1),
            target: Target::Cluster { id: CLUSTER, port: 80, subset },
            timeouts: Timeouts { connect_ms: 10_000, ..Timeouts::default() },
            ..Backend::default()
        };
        change(&mut backend);
        self.ir.backends.insert(backend_id, backend);
        let criteria = Criteria { paths: vec![PathMatch::Prefix(path.into())], ..Criteria::default() };
        let rank = Rank { weight: path.len() as u128, tie: id.as_u128() };
        let matches = Matches::from(criteria);
        let origin = Origin::new("test", "routes", id);
        self.ir
            .routes
            .insert(id, Route { origin, rank, matches, action: Action::Forward(backend_id), ..Route::default() });
    }

    /// Changes all backends.
    pub(crate) fn backends(mut self, change: impl Fn(&mut Backend)) -> Self {
        let all: Vec<_> = self.ir.backends.iter().map(|(id, backend)| (*id, Backend::clone(backend))).collect();
        for (id, mut backend) in all {
            change(&mut backend);
            self.ir.backends.insert(id, backend);
        }
        self
    }

    pub(crate) fn configuration(&self) -> Configuration {
        Configuration::new(self.ir.clone(), self.node.clone())
    }

    pub(crate) fn start(&self) -> Result<World> {
        World::of(plugins(), self.configuration())
    }
}

/// The first upstream of `/status/upstreams`.
pub(crate) async fn shown(world: &World) -> Result<Value> {
    let page = H1Client::connect(world.status()).await?.get("/status/upstreams", "s", &[]).await?;
    Ok(page.json()["upstreams"][0].clone())
}

/// The value of a metric.
pub(crate) async fn metric(world: &World, sample: &str) -> Result<Option<u64>> {
    let page = H1Client::connect(world.status()).await?.get("/metrics", "s", &[]).await?.text();
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    Ok(line.map(|value| value.parse().unwrap()))
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = Result<bool>>>(is: impl Fn() -> F) -> Result<()> {
    let look = async || match is().await {
        Ok(is) => is.then_some(Ok(())),
        Err(error) => Some(Err(error)),
    };
    cardinal_testkit::until_some("a condition of a test", look).await?
}

/// An HTTP/1.1 server that responds to a request once allowed. The response is its name.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<GateState>,
    accepting: JoinHandle<()>,
}

/// The state shared by connections of a [`Gate`].
pub(crate) struct GateState {
    pub(crate) open: Semaphore,
    arrived: AtomicUsize,
    connections: AtomicUsize,
    pub(crate) status: AtomicUsize,
    name: String,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Gate {
    /// A gate that does not respond yet.
    pub(crate) async fn closed(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(GateState {
            open: Semaphore::new(0),
            arrived: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            status: AtomicUsize::new(200),
            name: name.to_owned(),
        });
        let state = Arc::clone(&shared);
        let accepting = task::spawn("gate", async move {
            while let Ok((tcp, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&state);
                drop(task::spawn("gate connection", async move {
                    // The other side of the connection detects how it ends.
                    state.serve(tcp).await.ok();
                }));
            }
        });
        Self { address, shared, accepting }
    }

    /// A gate that responds immediately.
    pub(crate) async fn open(name: &str) -> Self {
        let gate = Self::closed(name).await;
        gate.let_through(1 << 20);
        gate
    }

    /// Allows this many responses.
    pub(crate) fn let_through(&self, count: usize) {
        self.shared.open.add_permits(count);
    }

    /// Sets the status of further responses.
    pub(crate) fn answer_with(&self, status: u16) {
        self.shared.status.store(status.into(), Ordering::SeqCst);
    }

    /// Number of requests received.
    pub(crate) fn arrived(&self) -> usize {
        self.shared.arrived.load(Ordering::SeqCst)
    }

    /// Number of connections received.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_arrived(&self, count: usize) {
        until(async || Ok(self.arrived() >= count)).await.unwrap();
    }
}

impl GateState {
    async fn serve(&self, mut tcp: TcpStream) -> Result<()> {
        let (mut input, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            while !input.ends_with(b"\r\n\r\n") {
                let count = tcp.read(&mut buffer).await?;
                if count == 0 {
                    return Ok(());
                }
                input.extend_from_slice(&buffer[..count]);
            }
            input.clear();
            self.arrived.fetch_add(1, Ordering::SeqCst);
            // The wait ends when the proxy disconnects.
            let mut one = [0];
            let ended = tokio::select! {
                permit = self.open.acquire() => { permit?.forget(); false }
                read = tcp.read(&mut one) => read.map_or(true, |count| count == 0),
            };
            if ended {
                return Ok(());
            }
            let status = self.status.load(Ordering::SeqCst);
            if status == 0 {
                return Ok(());
            }
            let length = self.name.len();
            tcp.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{}", self.name).as_bytes())
                .await?;
        }
    }
}
