//! [`Engine`]: starts workers, applies generations, drains connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cardinal_base::metrics::MetricSource;
use cardinal_base::{Budget, Clock, SystemClock, descriptors, task};
use cardinal_ir::{Listener, ListenerKind, NodeSettings};
use cardinal_net::dns::Dns;
use cardinal_net::identity::IdentityStore;
use cardinal_sdk::{PluginDef, Services, Shared as SharedState, StatusForm};
use cardinal_sync::{ConfigSource, ConfigStatus, Update};
use tokio::runtime::{Builder, Handle, LocalOptions, Runtime};
use tokio::sync::Notify;

use crate::access_log::AccessLog;
use crate::applying::{Applier, plan};
use crate::caller::Caller;
use crate::certificate_reader::CertificateReader;
use crate::configuration::Configuration;
use crate::connector::Trust;
use crate::counters::{Counters, Totals};
use crate::handle::NodeHandle;
use crate::listening::{Command, Handover, Listening, Mailbox, Socket, Sockets, WorkerSockets};
use crate::names::Names;
use crate::network::NodeNetwork;
use crate::node::{Node, Shared};
use crate::outcome::{Applied, ApplyError, EngineError};
use crate::plan::{Plan, Registry};
use crate::policy::circuit::yield_connections;
use crate::redis_client::RedisClient;
use crate::worker::Worker;
use crate::{accept, health, memory_trim, status, stream};

/// Options for starting an engine.
#[derive(Default)]
pub struct Options {
    /// Number of worker threads; 0 means one per core.
    pub workers: usize,
    /// All plugins of the binary.
    pub plugins: Vec<&'static PluginDef>,
    /// The access log.
    pub access_log: Option<AccessLog>,
    /// Maximum number of file descriptors of the process. The number of client connections is limited accordingly, and
    /// some descriptors are reserved for the node itself. `None` is unlimited.
    pub descriptors_max: Option<u64>,
    /// The status that the configuration source updates, for `/status` and `/metrics`.
    pub config_status: Option<Arc<ConfigStatus>>,
    /// The node serves status pages alone, for a process that sends its configuration on: it is ready when its source has
    /// accepted one.
    pub is_idle: bool,
    /// The format of status pages; [`None`] selects the plain format.
    pub status_form: Option<&'static dyn StatusForm>,
    /// Other parts of the process whose metrics `/metrics` shows, such as a control plane.
    pub metric_sources: Vec<Arc<dyn MetricSource>>,
    /// Sockets handed over by a predecessor; used if address and kind of a listener match.
    pub inherited: Vec<Handover>,
    /// The clock of the engine; `None` selects the system clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// Seed of all randomness except keys: request ids, load balancing, sampling. Worker `n` uses `seed + n`. `None`
    /// seeds from the operating system.
    pub seed: Option<u64>,
}

/// A running data plane. Dropping it stops it without draining.
pub struct Engine {
    node: Arc<Node>,
    applier: Applier,
    workers: Mutex<Vec<Running>>,
    sockets: Arc<Sockets>,
    /// Tasks of the status listeners.
    status: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    control: Control,
}

struct Running {
    commands: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts serving a configuration on its listeners.
    ///
    /// # Errors
    /// See [`EngineError`]; nothing is served in that case.
    pub fn start(configuration: Configuration, options: Options) -> Result<(Self, Applied), EngineError> {
        // The TLS provider is process-wide; for a second engine it is already installed.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let start = |what| move |error| EngineError::Start { what, error };
        let control = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
            .map(|runtime| Control(Some(runtime)))
            .map_err(start("the control runtime"))?;
        let handle = control.handle().ok_or_else(|| EngineError::Setup("no control runtime".to_owned()))?;
        let count = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let clock = options.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let mut node = make_node(&configuration.node, &handle, clock, count, options.access_log)?;
        node.shared.registry.seed_with(options.seed);
        node.seed = options.seed;
        node.config = options.config_status.unwrap_or(node.config);
        node.is_idle = options.is_idle;
        node.status_form = options.status_form.unwrap_or(node.status_form);
        node.metric_sources = options.metric_sources;
        let node = Arc::new(node);
        let (plan, mut diagnostics) = plan(&node, &options.plugins, configuration, 1).map_err(EngineError::Refused)?;
        let listeners = plan.node.listeners.clone();
        let mut inherited = options.inherited;
        let sockets = Arc::new(Sockets::default());
        sockets.open_node(&listeners, count, &mut inherited)?;
        let change = sockets.prepare(&plan, count, &mut inherited);
        diagnostics.extend(change.failed.iter().cloned());
        node.publish(plan);
        node.names.follow(&node.shared.registry);
        let applier = Applier::start(&node, &sockets, &options.plugins, &handle, count);
        let applier = applier.map_err(start("the thread that plans"))?;
        let per_worker = sockets.per_worker(count).map_err(start("the listeners"))?;
        let engine = Self { node, applier, workers: Mutex::default(), sockets, status: Mutex::default(), control };
        engine.start_control(&listeners)?;
        if let Some(limit) = options.descriptors_max {
            let split = Descriptors::split(limit, descriptors::open_count().unwrap_or(0), count);
            descriptors::set_ceiling(split.ceiling);
            engine.node.set_connections_fitting(split.connections);
        }
        let running = per_worker.into_iter().enumerate().map(|(index, sockets)| engine.start_worker(index, sockets));
        let running: Vec<Running> = running.collect::<Result<_, _>>()?;
        engine.sockets.set_workers(running.iter().map(|worker| worker.commands.clone()).collect());
        engine.sockets.commit(change, Duration::ZERO);
        *lock(&engine.workers) = running;
        Ok((engine, Applied { generation: 1, diagnostics }))
    }

    /// Applies another generation. Requests in progress finish with the generation they started with. Listeners of the
    /// generation are opened and closed without losing connections: connections of a removed listener end after their
    /// current request, others are unaffected. Listeners of the node's settings are unchanged. Planning runs on a
    /// dedicated thread; the caller waits for it.
    ///
    /// # Errors
    /// See [`ApplyError`]; the old generation stays active in that case.
    pub fn apply(&self, update: Update) -> Result<Applied, ApplyError> {
        self.applier.apply(update)
    }

    /// Builds the update from the active generation to another configuration, for callers without a configuration
    /// source.
    pub fn update(&self, Configuration { ir, secrets, node }: Configuration) -> Update {
        let served = self.plan().map(|plan| Arc::clone(&plan.ir)).unwrap_or_default();
        Update::between(&served, &ir).with_secrets(secrets).with_node(node)
    }

    /// Applies the updates of a source in order until the source ends. Blocks the thread while an update is planned.
    pub async fn follow(&self, source: &mut dyn ConfigSource) {
        while let Some(update) = source.next().await {
            source.ack(self.apply(update).map_or_else(Into::into, Into::into));
        }
    }

    /// The active generation.
    pub fn plan(&self) -> Option<Arc<Plan>> {
        self.node.plan()
    }

    /// The number of replaced generations that are not yet freed, because requests still use them.
    pub fn retired_plans(&self) -> usize {
        self.node.retired_plans()
    }

    /// Maximum number of open client connections: the configured limit (0 is no limit), or fewer if the file
    /// descriptors do not suffice.
    pub fn connections_max(&self) -> u32 {
        self.node.connections_max(self.plan().map_or(0, |plan| plan.node().limits.connections_max))
    }

    /// The listening addresses, with ports that the system assigned.
    pub fn addresses(&self) -> Vec<(Arc<Listener>, SocketAddr)> {
        self.sockets.addresses()
    }

    /// Identities of the node, and the trust bundles by which peers are verified: a live handle. A certificate or
    /// bundle set here is used from the next handshake on, without a new generation. Identities are keyed by the id of
    /// their record.
    pub fn identities(&self) -> &Arc<IdentityStore> {
        self.node.shared.registry.identities()
    }

    /// Closes connections whose peer is no longer allowed by [`Engine::identities`]: its trust domain has no bundle, or
    /// the listener has lost its own identity. Applying a generation does this by itself.
    pub fn close_unauthorized(&self) {
        self.sockets.review();
    }

    /// The counters of all workers.
    pub fn totals(&self) -> Totals {
        self.node.totals()
    }

    /// The node, as filters see it.
    pub fn services(&self) -> &Services {
        &self.node.services
    }

    /// The status that the configuration source updates, for `/status` and `/metrics`.
    pub fn config_status(&self) -> &Arc<ConfigStatus> {
        &self.node.config
    }

    /// The node, for APIs in the same process.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle::new(&self.node)
    }

    /// Copies of all listening sockets, for a successor process.
    ///
    /// # Errors
    /// If the process has no free descriptors.
    pub fn handover(&self) -> std::io::Result<Vec<Handover>> {
        self.sockets.handover()
    }

    /// Stops the status listeners, because a successor process serves the same sockets.
    pub fn stop_status(&self) {
        lock(&self.status).drain(..).for_each(|task| task.abort());
    }

    /// Drains: accepts no new connections, lets requests in progress finish for at most `budget`, then stops. Returns
    /// the number of connections that were cut off.
    pub fn drain(mut self, budget: Duration) -> u64 {
        self.node.start_draining();
        self.sockets.clear();
        let workers = std::mem::take(&mut *lock(&self.workers));
        for worker in &workers {
            for command in [Command::StopAccepting, Command::Drain(budget)] {
                worker.commands.send(command);
            }
        }
        for worker in workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        let left = self.node.cut_off.load(Ordering::Relaxed);
        if let Some(log) = &self.node.access_log {
            log.flush();
        }
        if let Some(control) = self.control.0.take() {
            let left = control.block_on(cardinal_sdk::queue::drain(&self.node.services, Duration::from_secs(5)));
            if left > 0 {
                tracing::warn!(left, "log entries were not sent before the shutdown");
            }
            control.shutdown_timeout(Duration::from_secs(1));
        }
        left
    }

    fn start_control(&self, listeners: &[Listener]) -> Result<(), EngineError> {
        let Some(handle) = self.control.handle() else { return Ok(()) };
        let _entered = handle.enter();
        drop(task::spawn("memory", memory_trim::after_bursts(Arc::clone(&self.node))));
        drop(task::spawn("health checks", health::run_probes(Arc::clone(&self.node))));
        for listener in listeners.iter().filter(|l| l.kind == ListenerKind::Status) {
            let start = |error| EngineError::Start { what: "the status listener", error };
            let Some(socket) = self.sockets.status_socket(listener.address).map_err(start)? else { continue };
            let socket = tokio::net::TcpListener::from_std(socket).map_err(start)?;
            let task = task::spawn("status", status::serve(Arc::clone(&self.node), socket, listener.tls.is_some()));
            lock(&self.status).push(task);
        }
        Ok(())
    }

    fn start_worker(&self, index: usize, sockets: WorkerSockets) -> Result<Running, EngineError> {
        let commands = Arc::<Mailbox>::default();
        let mailbox = Arc::clone(&commands);
        let node = Arc::clone(&self.node);
        let start = |what| move |error| EngineError::Start { what, error };
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        ready.send(Err(error)).ok();
                        return;
                    }
                };
                runtime.block_on(work(index, node, sockets, &mailbox, ready));
            })
            .map_err(start("a worker thread"))?;
        match started.recv() {
            Ok(Ok(())) => Ok(Running { commands, thread }),
            Ok(Err(error)) => Err(start("a worker")(error)),
            Err(_) => Err(EngineError::Setup("a worker ended while starting".to_owned())),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.node.start_draining();
        for worker in std::mem::take(&mut *lock(&self.workers)) {
            worker.commands.send(Command::End);
            worker.thread.join().ok();
        }
    }
}

/// The control runtime, shut down when dropped. It may be dropped within another runtime.
struct Control(Option<Runtime>);

impl Control {
    fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The division of the process's file descriptors.
#[derive(Debug, PartialEq, Eq)]
struct Descriptors {
    /// The first descriptor number that connections must not use.
    ceiling: u64,
    /// Maximum number of client connections.
    connections: u32,
}

impl Descriptors {
    /// Divides `limit` descriptors, of which `used` are open before the workers start.
    fn split(limit: u64, used: u64, workers: usize) -> Self {
        let reserve = (limit / 8).clamp(RESERVE_MIN, RESERVE_MAX).min(limit / 4);
        let ceiling = limit - reserve;
        let free = ceiling.saturating_sub(used + WORKER_DESCRIPTORS * workers as u64);
        // A client connection may need a second descriptor for an upstream.
        let connections = u32::try_from(free / 2).unwrap_or(u32::MAX).max(1);
        Self { ceiling, connections }
    }
}

/// Bounds on the descriptors that are reserved for the node itself: an eighth of all, within these bounds.
const RESERVE_MIN: u64 = 32;
const RESERVE_MAX: u64 = 256;
/// Descriptors of a worker in addition to its listening sockets and connections.
const WORKER_DESCRIPTORS: u64 = 6;

/// Builds the state that all workers share.
pub(crate) fn make_node(
    settings: &NodeSettings,
    control: &Handle,
    clock: Arc<dyn Clock>,
    workers: usize,
    access_log: Option<AccessLog>,
) -> Result<Node, EngineError> {
    let setup = |error: &dyn std::fmt::Display| EngineError::Setup(error.to_string());
    let registry = Registry::new(Arc::clone(&clock)).map_err(|e| setup(&e))?;
    let counters = (0..workers).map(|_| Counters::default()).collect();
    let trust = Arc::new(Trust::default());
    trust.set(settings.upstream_authorities.as_deref());
    let shared = Arc::new(Shared { counters, registry, trust: Arc::clone(&trust) });
    let dns = Dns::new(&settings.resolver, Arc::clone(&clock), control.clone()).map_err(|e| setup(&e))?;
    let caller = Caller::new(Arc::new(dns.clone()), Arc::clone(&trust));
    let redis = RedisClient::new(Arc::new(dns.clone()), Arc::clone(&trust));
    let network = NodeNetwork::new(Arc::new(dns.clone()), trust);
    let services = Services {
        clock: Arc::clone(&clock),
        shared: Arc::new(SharedState::default()),
        http: Arc::new(caller),
        redis: Arc::new(redis),
        network: Arc::new(network),
        certificates: Arc::new(CertificateReader),
        runtime: control.clone(),
        memory: Arc::new(Budget::new(usize::try_from(settings.limits.buffered_bytes_total_max).unwrap_or(usize::MAX))),
        node: Arc::clone(&shared) as Arc<dyn cardinal_sdk::NodeView>,
        node_id: settings.id,
        hostname: hostname().into(),
        redacted_headers: settings.redacted_headers.clone().into(),
        tenants: Arc::default(),
    };
    Ok(Node::new(shared, services, Names::new(dns, clock), access_log))
}

/// The host name of the machine.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |n| n.trim().to_owned())
}

/// The main function of a worker.
async fn work(
    index: usize,
    node: Arc<Node>,
    sockets: WorkerSockets,
    commands: &Mailbox,
    ready: std::sync::mpsc::Sender<std::io::Result<()>>,
) {
    let Some(plan) = node.plan() else { return };
    let worker = Worker::new(index, node, plan);
    drop(task::spawn_local("deadlines", Rc::clone(&worker.wheel).run()));
    drop(task::spawn_local("upstream pool", Rc::clone(&worker).sweep()));
    drop(task::spawn_local("idle connections", yield_connections(Rc::clone(&worker))));
    let mut accepting = HashMap::new();
    for (number, listening, socket) in sockets {
        match Accepting::start(&worker, listening, socket) {
            Ok(started) => drop(accepting.insert(number, started)),
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        }
    }
    ready.send(Ok(())).ok();
    loop {
        match commands.receive().await {
            Command::Accept(number, listening, socket) => {
                let name = listening.listener.name.clone();
                match Accepting::start(&worker, listening, socket) {
                    Ok(started) => drop(accepting.insert(number, started)),
                    Err(error) => tracing::error!(listener = %name, %error, "a worker cannot listen"),
                }
            }
            Command::Close(number, record, budget) => {
                accepting.remove(&number).into_iter().for_each(Accepting::stop);
                drop(task::spawn_local("closed listener", Rc::clone(&worker).end_connections_of(record, budget)));
            }
            Command::Review(budget) => {
                worker.close_unauthorized();
                if let Some(budget) = budget.filter(|_| worker.has_outdated()) {
                    drop(task::spawn_local("outdated connections", Rc::clone(&worker).end_outdated(budget)));
                }
            }
            Command::StopAccepting => accepting.drain().for_each(|(_, accepting)| accepting.stop()),
            Command::Drain(budget) => return drain(&worker, budget).await,
            Command::End => return,
        }
    }
}

/// The task that accepts on a socket.
enum Accepting {
    Tcp(Rc<Notify>),
    Udp(tokio::task::JoinHandle<()>),
}

impl Accepting {
    fn start(worker: &Rc<Worker>, listening: Listening, socket: Socket) -> std::io::Result<Self> {
        let worker = Rc::clone(worker);
        Ok(match socket {
            Socket::Tcp(socket) => {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                let stop = Rc::new(Notify::new());
                drop(task::spawn_local("listener", accept::accept(worker, socket, listening, Rc::clone(&stop))));
                Self::Tcp(stop)
            }
            Socket::Udp(socket) => {
                let socket = tokio::net::UdpSocket::from_std(socket)?;
                Self::Udp(task::spawn_local("udp listener", stream::serve_udp(worker, socket, listening)))
            }
        })
    }

    fn stop(self) {
        match self {
            Self::Tcp(stop) => stop.notify_one(),
            Self::Udp(task) => task.abort(),
        }
    }
}

/// Waits until the worker has no connections, but no longer than `budget`.
async fn drain(worker: &Worker, budget: Duration) {
    let deadline = worker.now().0.saturating_add(u64::try_from(budget.as_micros()).unwrap_or(u64::MAX));
    worker.start_draining();
    // Listeners still accept the connections in their queues.
    worker.sleep(Duration::from_millis(10)).await;
    while worker.open_connections() > 0 && worker.now().0 < deadline {
        worker.sleep(Duration::from_millis(10)).await;
        // Connections may have become idle since the last iteration.
        worker.start_draining();
    }
    let left = worker.open_connections();
    if left > 0 {
        worker.node.cut_off.fetch_add(left as u64, Ordering::Relaxed);
        worker.start_cutting();
        // Leaves time for the log records of connections that were cut off.
        worker.sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_split_between_connections_and_the_node() {
        let split = |limit, used| {
            let Descriptors { ceiling, connections } = Descriptors::split(limit, used, 2);
            (ceiling, connections)
        };
        assert_eq!(split(128, 30), (96, 27));
        assert_eq!(split(20_000, 40), (19_744, 9_846));
        assert_eq!(split(64, 60), (48, 1), "one client at least");
        assert_eq!(split(u64::MAX, 40).1, u32::MAX);
    }
}
