//! The control plane of the process: the store, the source of configuration that follows it, and the Admin API.
//!
//! Without a database the API shows what the files say.

mod closing;
mod files_api;
mod last_good;
pub(super) mod listeners;
mod opening;
pub(super) mod proxies;
mod tls;
mod users;
mod writes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cardinal_base::metrics::MetricSource;
use cardinal_base::{Clock, SystemClock, SystemRng, UnixMillis, task};
use cardinal_control::api::{Admin, AdminMetrics, AdminSettings, route_patterns};
use cardinal_control::rbac::SessionTimes;
use cardinal_control::{Cluster, Dao, LateStore, ObservedStore, SnapshotStore, SourceStatus, StoreSource};
use cardinal_engine::{Engine, hostname};
use cardinal_ir::{Listener, ListenerKind, NodeSettings, Severity};
use cardinal_kong::settings::{Role, RouterFlavor};
use cardinal_kong::{Registry, Settings};
use cardinal_store::{Store, StoreError};
use cardinal_sync::stream::TargetHealth;
use cardinal_sync::{
    Ack, ConfigOutcome, ConfigProblem, ConfigSource, ConfigStatus, Incomplete, LastGood, Next, ProblemList, Update,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;

use super::log_level::LogLevel;

pub(super) use files_api::{FilesApi, Post};
use last_good::{LastGoodOfStore, StoreKeeper};
use opening::{Opening, reason};
use users::enforced;
use writes::FilesWriter;
pub(super) use writes::WriteRequest;

use super::cluster::Publisher;

/// Bytes of a request body of the Admin API at most.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The control plane of a process.
pub(super) struct Control {
    runtime: Runtime,
    dao: Dao,
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// The configuration without a database.
    files: Option<Arc<FilesApi>>,
    /// The configuration of a database.
    stored: Option<Stored>,
    metrics: Arc<AdminMetrics>,
    /// Files are written as a database is.
    writable: bool,
    /// Whether sockets of the API are to be closed.
    stop: watch::Sender<bool>,
}

/// What is known of the database and of what is served of it.
struct Stored {
    store: Arc<ObservedStore>,
    source: Arc<SourceStatus>,
    keeper: Arc<StoreKeeper>,
}

/// The store of a node that starts.
struct FirstStore {
    store: Arc<dyn Store>,
    cluster: Option<Cluster>,
    /// Without it: what is to be opened later, what is served until then, and why.
    away: Option<(Arc<LateStore>, LastGoodOfStore, String)>,
}

/// What the source of a configuration without a database needs of the API.
pub(super) struct Api {
    /// What the API shows.
    pub(super) shared: Arc<FilesApi>,
    /// What clients post.
    pub(super) posts: Receiver<Post>,
    /// Changes that clients make, if they may.
    pub(super) writes: Option<Receiver<WriteRequest>>,
}

impl Control {
    /// Opens the store in a directory and reads the first configuration. If it cannot be read, the last known good
    /// configuration is served until it can. `new_store`: it may be an empty one in the directory of a node that has served
    /// files.
    pub(super) fn start(
        registry: Registry,
        mut settings: Settings,
        (data_dir, new_store): (&Path, bool),
        health: Sender<TargetHealth>,
    ) -> Result<(Self, ControlSource, Update, Option<Publisher>)> {
        let runtime = runtime("admin")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Arc::new(registry);
        let opening = Opening {
            settings: settings.clone(),
            registry: Arc::clone(&registry),
            data_dir: data_dir.to_owned(),
            may_be_new: new_store,
            clock: Arc::clone(&clock),
        };
        let engine = last_good::engine(&settings);
        let file = LastGood::open(data_dir).context("the data directory")?.of_store();
        let FirstStore { store, cluster, away } = first_store(&runtime, &opening, (&file, engine))?;
        let saved_cluster = cluster.as_ref().map(Cluster::saved);
        let publisher = publisher(&mut settings, cluster, &clock)?;
        let store = Arc::new(ObservedStore::new(store, Arc::clone(&clock)));
        let dao = Dao::new(Arc::clone(&store) as _, Arc::clone(&registry), Arc::clone(&clock), SystemRng);
        let metrics = Arc::new(AdminMetrics::new(route_patterns(&registry)));
        let following = Following {
            store: Arc::clone(&store) as _,
            registry,
            settings: (Arc::new(settings.clone()), Arc::new(settings.node.clone())),
            clock: Arc::clone(&clock),
        };
        let inside = runtime.enter();
        let (source, update, resumed) = match away {
            Some((late, last, why)) => {
                drop(task::spawn("opening the database", opening.open_later(late, dao.clone())));
                following.resume(last, why)
            }
            None => {
                runtime.block_on(users::prepare(&dao, &settings))?;
                match runtime.block_on(following.start()) {
                    Ok((source, update)) => (source, update, None),
                    Err(error) => {
                        let error = anyhow::Error::new(error).context("cannot read the store");
                        let why = reason(&error);
                        following.resume(last_good::load_or(&file, engine, error)?, why)
                    }
                }
            }
        };
        if update.generation().is_empty() {
            tracing::warn!("the database has no entities: every request is answered with 404");
        }
        let status = Arc::new(ConfigStatus::new(Arc::clone(&clock)).accepting_empty());
        status.set_unavailable(resumed.as_ref().map(|resumed| resumed.why.clone()));
        let checks = check_store(Arc::clone(&store), Arc::clone(&status), Arc::clone(&clock));
        drop(task::spawn("database check", checks));
        let keeper = Arc::new(StoreKeeper::new(file, engine, saved_cluster, Arc::clone(&clock)));
        drop(task::spawn("saving the last known good configuration", Arc::clone(&keeper).run()));
        drop(inside);
        let stored = Some(Stored { store, source: Arc::clone(source.status()), keeper: Arc::clone(&keeper) });
        let source = source.telling_health(settings.node.id, health).showing_revision(Arc::clone(&status));
        let source = ControlSource { source, status, keeper, resumed };
        let (files, stop) = (None, watch::Sender::new(false));
        let control = Self { runtime, dao, settings, clock, files, stored, metrics, writable: true, stop };
        Ok((control, source, update, publisher))
    }

    /// For a configuration of files, which may be `writable`.
    pub(super) fn of_files(
        registry: Registry,
        settings: Settings,
        writable: bool,
    ) -> Result<(Self, Api, Option<Publisher>)> {
        users::refuse_with_files(&settings)?;
        let (runtime, registry) = (runtime("admin")?, Arc::new(registry));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (writer, writes) = writable.then(FilesWriter::new).unzip();
        let store = Arc::new(match writer {
            Some(writer) => SnapshotStore::written_by(Arc::clone(&registry), Arc::new(writer)),
            None => SnapshotStore::new(Arc::clone(&registry)),
        });
        let (shared, posts) = FilesApi::new(Arc::clone(&store), Arc::clone(&registry));
        let metrics = Arc::new(AdminMetrics::new(route_patterns(&registry)));
        let dao = Dao::new(store, registry, Arc::clone(&clock), SystemRng);
        let dao = if writable { dao.over_files() } else { dao };
        let (files, stop) = (Some(Arc::clone(&shared)), watch::Sender::new(false));
        let publisher = sends_on(&settings).then(|| Publisher::new(&settings.cluster, None, Arc::clone(&clock)));
        let publisher = publisher.transpose()?;
        let control = Self { runtime, dao, settings, clock, files, stored: None, metrics, writable, stop };
        Ok((control, Api { shared, posts, writes }, publisher))
    }

    /// The runtime that the source must be polled on.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What `/metrics` of the node shows of the control plane.
    pub(super) fn metric_sources(&self, publisher: Option<&Publisher>) -> Vec<Arc<dyn MetricSource>> {
        let mut sources: Vec<Arc<dyn MetricSource>> = vec![Arc::clone(&self.metrics) as _];
        if let Some(Stored { store, source, .. }) = &self.stored {
            sources.extend([Arc::clone(store) as _, Arc::clone(source) as _]);
        }
        sources.extend(publisher.map(|publisher| Arc::new(publisher.server().clone()) as _));
        sources
    }

    /// Serves the Admin API for the node, and its data planes. If it takes over from a process that has an address, that is waited for in the
    /// background.
    pub(super) fn serve(&self, engine: &Engine, publisher: Option<&Publisher>, takes_over: bool) -> Result<()> {
        if let Some(publisher) = publisher {
            publisher.listen(&self.runtime, &self.stop, takes_over)?;
        }
        let serves = self.settings.role != Role::ControlPlane;
        let server = publisher.map(|publisher| publisher.server().clone());
        let log_level = LogLevel::new(&self.settings.log_level, Arc::clone(&self.clock));
        let proxies = Arc::new(proxies::EngineProxies::new(engine.handle(), serves, server, log_level));
        let (dao, settings) = (self.dao.clone(), admin_settings(&self.settings, !self.writable, self.files.is_some()));
        let admin = match self.files.as_ref().filter(|_| !self.writable) {
            Some(files) => Admin::declarative(dao, proxies, settings, Arc::clone(files) as _),
            None => Admin::new(dao, proxies, settings),
        };
        let admin = admin.lowering_with(Arc::new(self.settings.clone())).measured_by(Arc::clone(&self.metrics));
        let admin = match &self.stored {
            Some(stored) => admin.served_by(Arc::clone(&stored.source)),
            None => admin,
        };
        self.listen(&admin, takes_over)
    }

    /// Closes the sockets of the API: another process serves it. Requests in progress end.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// How often the database is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Checks again and again whether the database can be reached, for readiness and metrics.
async fn check_store(store: Arc<ObservedStore>, status: Arc<ConfigStatus>, clock: Arc<dyn Clock>) {
    // One that could not be opened was told of.
    let mut is_reachable = status.state().unavailable.is_none();
    loop {
        let result = store.status().await;
        // Before the log says so.
        status.set_unavailable(result.as_ref().err().map(ToString::to_string));
        match &result {
            Err(error) if is_reachable => {
                tracing::error!(%error, "the database cannot be reached; the current configuration stays in use");
            }
            Ok(status) if !is_reachable => {
                tracing::warn!(revision = status.revision, "the database can be reached again");
            }
            _ => {}
        }
        is_reachable = result.is_ok();
        clock.sleep(CHECK_INTERVAL).await;
    }
}

/// A runtime for what does not serve requests.
pub(super) fn runtime(name: &str) -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name(name).enable_all().build().with_context(|| format!("the runtime '{name}'"))
}

/// Whether generations are sent on to data planes.
pub(super) fn sends_on(settings: &Settings) -> bool {
    let has_listener = !settings.cluster.listeners.is_empty();
    has_listener && (settings.role == Role::ControlPlane || settings.cluster.is_listen_given)
}

/// The store, or what is served without it.
fn first_store(runtime: &Runtime, opening: &Opening, (file, engine): (&LastGood, &str)) -> Result<FirstStore> {
    let error = match runtime.block_on(opening.open()) {
        Ok((store, cluster)) => {
            let _inside = runtime.enter();
            opening.look_after(&store);
            return Ok(FirstStore { store, cluster, away: None });
        }
        Err(error) => error,
    };
    let why = reason(&error);
    if sends_on(&opening.settings) && !last_good::has_cluster(file) {
        return Err(error);
    }
    let mut last = last_good::load_or(file, engine, error)?;
    let cluster = last.cluster.take().map(Cluster::of_saved).transpose()?;
    let late = Arc::new(LateStore::new(why.clone()));
    Ok(FirstStore { store: Arc::clone(&late) as _, cluster, away: Some((late, last, why)) })
}

/// What sends generations on, if anything does.
fn publisher(settings: &mut Settings, cluster: Option<Cluster>, clock: &Arc<dyn Clock>) -> Result<Option<Publisher>> {
    let Some(cluster) = cluster.filter(|_| sends_on(settings)) else { return Ok(None) };
    if !settings.secret_key_given {
        settings.secret_key = cluster.reference_key();
    }
    Ok(Some(Publisher::new(&settings.cluster, Some(cluster), Arc::clone(clock))?))
}

/// What a [`StoreSource`] is made of.
struct Following {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    settings: (Arc<Settings>, Arc<NodeSettings>),
    clock: Arc<dyn Clock>,
}

impl Following {
    async fn start(&self) -> Result<(StoreSource, Update), StoreError> {
        let (settings, node) = self.settings.clone();
        StoreSource::start(Arc::clone(&self.store), Arc::clone(&self.registry), settings, node, Arc::clone(&self.clock))
            .await
    }

    fn resume(self, last: LastGoodOfStore, why: String) -> (StoreSource, Update, Option<Resumed>) {
        last.announce(&why, &*self.clock);
        let LastGoodOfStore { served, saved_at, left_out, .. } = last;
        let (source, update) = StoreSource::resume(self.store, self.registry, self.settings, self.clock, served);
        (source, update, Some(Resumed { why, saved_at, left_out }))
    }
}

fn admin_settings(settings: &Settings, is_read_only: bool, has_files: bool) -> AdminSettings {
    let [idle, absolute] = settings.admin.session_seconds;
    AdminSettings {
        version: settings.admin.version.clone(),
        hostname: hostname(),
        configuration: configuration(settings, is_read_only, has_files),
        origins: settings.admin.origins.clone(),
        is_control_plane: settings.role == Role::ControlPlane,
        body_bytes_max: BODY_BYTES_MAX,
        enforce_rbac: enforced(settings, has_files),
        sessions: SessionTimes { idle: idle.into(), absolute: absolute.into() },
    }
}

/// What `GET /` shows of the settings. Clients look for some of them.
fn configuration(settings: &Settings, is_read_only: bool, has_files: bool) -> Value {
    let flavor = match settings.router_flavor {
        RouterFlavor::Traditional => "traditional",
        RouterFlavor::TraditionalCompatible => "traditional_compatible",
        RouterFlavor::Expressions => "expressions",
    };
    let text = |(address, tls): &(SocketAddr, bool)| if *tls { format!("{address} ssl") } else { address.to_string() };
    let listens: Vec<String> = settings.admin.listeners.iter().map(text).collect();
    json!({
        // Clients of Kong know no other database.
        "database": if is_read_only { "off" } else { "postgres" },
        "router_flavor": flavor,
        "role": settings.role.as_str(),
        "admin_listen": listens,
        "plugins": ["bundled"],
        "log_level": settings.log_level,
        "proxy_listeners": listeners(settings, ListenerKind::Http),
        "stream_listeners": listeners(settings, ListenerKind::Stream),
        "status_listeners": listeners(settings, ListenerKind::Status),
        "portal": false,
        "rbac": enforced(settings, has_files).as_str(),
        "enforce_rbac": enforced(settings, has_files).as_str(),
    })
}

/// Listeners in Kong's form.
fn listeners(settings: &Settings, kind: ListenerKind) -> Vec<Value> {
    let is_of = |listener: &&Listener| match listener.kind {
        ListenerKind::Udp => kind == ListenerKind::Stream,
        other => other == kind,
    };
    let shown = |listener: &Listener| {
        let address = listener.address;
        let mut text = address.to_string();
        let flags = [
            ("ssl", listener.tls.is_some()),
            ("http2", listener.http2),
            ("proxy_protocol", listener.proxy_protocol),
            ("udp", listener.kind == ListenerKind::Udp),
        ];
        for (name, _) in flags.iter().filter(|(_, on)| *on) {
            text.push(' ');
            text.push_str(name);
        }
        let mut shown = json!({ "listener": text, "ip": address.ip().to_string(), "port": address.port(),
            "reuseport": true, "bind": false, "deferred": false });
        if let Some(shown) = shown.as_object_mut() {
            shown.extend(flags.into_iter().map(|(name, on)| (name.to_owned(), on.into())));
        }
        shown
    };
    settings.node.listeners.iter().filter(is_of).map(shown).collect()
}

/// The store of the process as the source of the configuration.
pub(super) struct ControlSource {
    source: StoreSource,
    status: Arc<ConfigStatus>,
    keeper: Arc<StoreKeeper>,
    /// About the first update, if it is the last known good configuration.
    resumed: Option<Resumed>,
}

/// About the last known good configuration that a node began with.
struct Resumed {
    why: String,
    saved_at: Option<UnixMillis>,
    left_out: ProblemList,
}

impl Resumed {
    fn outcome(self) -> ConfigOutcome {
        let problem = ConfigProblem { message: self.why, ..ConfigProblem::default() };
        let incomplete = Incomplete { left_out: self.left_out, ..Incomplete::default() };
        ConfigOutcome::LastGood { problems: vec![problem], incomplete, saved_at: self.saved_at }
    }
}

impl ControlSource {
    pub(super) fn status(&self) -> &Arc<ConfigStatus> {
        &self.status
    }

    /// The revision of the store that the last update has.
    pub(super) fn revision(&self) -> u64 {
        self.source.revision()
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        NodeSettings::clone(self.source.node()).listeners
    }

    /// Entities that are not served.
    fn left_out(&self) -> ProblemList {
        let found = self.source.status().get().diagnostics;
        ProblemList::by_entity(found.iter().filter(|found| found.severity == Severity::Error))
    }
}

impl ConfigSource for ControlSource {
    fn next(&mut self) -> Next<'_> {
        self.source.next()
    }

    fn ack(&mut self, ack: Ack) {
        let outcome = ConfigOutcome::of(&ack);
        let (resumed, generation) = match &ack {
            Ack::Applied { generation, .. } => (self.resumed.take(), Some(*generation)),
            Ack::Refused(_) => (None, None),
        };
        self.source.ack(ack);
        let Some(generation) = generation else { return self.status.report(outcome) };
        if let Some(resumed) = resumed {
            return self.status.report(resumed.outcome());
        }
        let revision = self.source.revision();
        tracing::info!(revision, generation, "revision {revision} of the database is served");
        let left_out = self.left_out();
        if let Some(served) = self.source.last_served() {
            self.keeper.note(served, left_out.clone());
        }
        self.status.report(ConfigOutcome::Applied(Incomplete { left_out, ..Incomplete::default() }));
    }
}
