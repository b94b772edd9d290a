//! [`Engine`]: starts workers, takes generations, drains.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// How to start an engine.
#[derive(Default)]
pub struct Options {
    /// Threads that serve; 0 for one a core.
    pub workers: usize,
    /// All plugins of the program.
    pub plugins: Vec<&'static PluginDef>,
    /// Where access records go.
    pub access_log: Option<AccessLog>,
    /// File descriptors that the process may have: client connections are limited to what they suffice for, and some are
    /// kept for the node itself. `None` limits nothing.
    pub descriptors_max: Option<u64>,
    /// What the source of the configuration reports to, for `/status` and `/metrics`.
    pub config_status: Option<Arc<ConfigStatus>>,
    /// The form of status pages; a plain one when absent.
    pub status_form: Option<&'static dyn StatusForm>,
    /// Sockets that a predecessor hands over; used where a listener's address and kind fit.
    pub inherited: Vec<Handover>,
    /// The clock of everything that the engine does; the machine's when absent.
    pub clock: Option<Arc<dyn Clock>>,
    /// Seed of the randomness that is not used for keys: request IDs, load balancing, sampling. Worker `n` uses
    /// `seed + n`. Taken from the operating system when absent.
    pub seed: Option<u64>,
}

/// A running data plane. Dropping it ends it without draining.
pub struct Engine {
    node: Arc<Node>,
    applier: Applier,
    workers: Mutex<Vec<Running>>,
    sockets: Arc<Sockets>,
    /// What serves the node's own state.
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
    /// See [`EngineError`]; then nothing is served.
    pub fn start(configuration: Configuration, options: Options) -> Result<(Self, Applied), EngineError> {
        // The process has one TLS provider; who comes second finds it installed.
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
        node.status_form = options.status_form.unwrap_or(node.status_form);
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

    /// Serves another generation. Requests in progress end by the one they began with. The listeners of the generation are
    /// opened and closed without a connection being lost: those of a listener that is gone end with their request, and
    /// others notice nothing. The listeners of the node's settings stay as they are. The work is done on a thread beside
    /// the workers; the caller waits.
    ///
    /// # Errors
    /// See [`ApplyError`]; then the old generation stays.
    pub fn apply(&self, update: Update) -> Result<Applied, ApplyError> {
        self.applier.apply(update)
    }

    /// The update from what is served to another configuration, for callers that are no source.
    pub fn update(&self, Configuration { ir, secrets, node }: Configuration) -> Update {
        let served = self.plan().map(|plan| Arc::clone(&plan.ir)).unwrap_or_default();
        Update::between(&served, &ir).with_secrets(secrets).with_node(node)
    }

    /// Serves the updates of a source, one after the other, until it ends. The thread is blocked while an update is planned.
    pub async fn follow(&self, source: &mut dyn ConfigSource) {
        while let Some(update) = source.next().await {
            source.ack(self.apply(update).map_or_else(Into::into, Into::into));
        }
    }

    /// The generation that is served.
    pub fn plan(&self) -> Option<Arc<Plan>> {
        self.node.plan()
    }

    /// The number of replaced generations that are not yet freed, because requests still use them.
    pub fn retired_plans(&self) -> usize {
        self.node.retired_plans()
    }

    /// Client connections that may be open at once: what the settings say (0 is no limit), or fewer where there are not
    /// enough file descriptors.
    pub fn connections_max(&self) -> u32 {
        self.node.connections_max(self.plan().map_or(0, |plan| plan.node().limits.connections_max))
    }

    /// Where is listened, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<(Arc<Listener>, SocketAddr)> {
        self.sockets.addresses()
    }

    /// Identities of the node, and the trust bundles that peers are verified by: a live handle. A certificate or a bundle
    /// that is set here holds for the next handshake, without a new generation. Identities are keyed by the id of their
    /// record.
    pub fn identities(&self) -> &Arc<IdentityStore> {
        self.node.shared.registry.identities()
    }

    /// Closes connections whose peer is not allowed any more by what [`Engine::identities`] holds now: its trust domain
    /// has no bundle, or the listener has lost its own identity. A new generation does this by itself.
    pub fn close_unauthorized(&self) {
        self.sockets.review();
    }

    /// What was counted.
    pub fn totals(&self) -> Totals {
        self.node.totals()
    }

    /// The node, as filters see it.
    pub fn services(&self) -> &Services {
        &self.node.services
    }

    /// What the source of the configuration reports to, for `/status` and `/metrics`.
    pub fn config_status(&self) -> &Arc<ConfigStatus> {
        &self.node.config
    }

    /// Copies of all listening sockets, for a successor.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn handover(&self) -> std::io::Result<Vec<Handover>> {
        self.sockets.handover()
    }

    /// Answers no more questions about the node's state: a successor does, on the same socket.
    pub fn stop_status(&self) {
        lock(&self.status).drain(..).for_each(|task| task.abort());
    }

    /// Takes no new connections, lets requests in progress end for at most `budget`, then ends. Says how many
    /// connections were cut off.
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

/// The control runtime, which ends with its owner. It may be dropped within another runtime.
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

/// How the file descriptors of the process are used.
#[derive(Debug, PartialEq, Eq)]
struct Descriptors {
    /// The first one that connections may not have.
    ceiling: u64,
    /// Client connections that the others suffice for.
    connections: u32,
}

impl Descriptors {
    /// Of `limit` descriptors `used` are open before the workers start.
    fn split(limit: u64, used: u64, workers: usize) -> Self {
        let reserve = (limit / 8).clamp(RESERVE_MIN, RESERVE_MAX).min(limit / 4);
        let ceiling = limit - reserve;
        let free = ceiling.saturating_sub(used + WORKER_DESCRIPTORS * workers as u64);
        // A client's connection may need another one to an upstream.
        let connections = u32::try_from(free / 2).unwrap_or(u32::MAX).max(1);
        Self { ceiling, connections }
    }
}

/// Descriptors that are kept for the node itself: an eighth of all, but within these bounds.
const RESERVE_MIN: u64 = 32;
const RESERVE_MAX: u64 = 256;
/// Descriptors of a worker besides its listening sockets and connections.
const WORKER_DESCRIPTORS: u64 = 6;

/// Sets up what all share.
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
    };
    Ok(Node::new(shared, services, Names::new(dns, clock), access_log))
}

/// Name of the machine.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |n| n.trim().to_owned())
}

/// The life of a worker.
async fn work(
    index: usize,
    node: Arc<Node>,
    sockets: WorkerSockets,
    commands: &Mailbox,
    ready: std::sync::mpsc::Sender<std::io::Result<()>>,
) {
    let Some(plan) = node.plan() else { return };
    let worker = Worker::new(index, node, plan);
    drop(task::spawn_local("deadlines", Rc::clone(&worker.wheel).turn()));
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
            Command::Review => worker.close_unauthorized(),
            Command::StopAccepting => accepting.drain().for_each(|(_, accepting)| accepting.stop()),
            Command::Drain(budget) => return drain(&worker, budget).await,
            Command::End => return,
        }
    }
}

/// What accepts on a socket.
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

/// Waits until the worker has no connection left, but no longer than `budget`.
async fn drain(worker: &Worker, budget: Duration) {
    let deadline = worker.now().0.saturating_add(u64::try_from(budget.as_micros()).unwrap_or(u64::MAX));
    worker.start_draining();
    // Listeners take what is still in their queues.
    worker.sleep(Duration::from_millis(10)).await;
    while worker.open_connections() > 0 && worker.now().0 < deadline {
        worker.sleep(Duration::from_millis(10)).await;
        // A connection may have become idle since the last look.
        worker.start_draining();
    }
    let left = worker.open_connections();
    if left > 0 {
        worker.node.cut_off.fetch_add(left as u64, Ordering::Relaxed);
        worker.start_cutting();
        // For the log records of what was cut off.
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
