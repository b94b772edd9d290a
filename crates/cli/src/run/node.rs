//! [`Node`]: a running engine, and what it needs of the process.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use cardinal_base::task;
use cardinal_engine::{Configuration, Engine, EngineError, Handover, Options as EngineOptions};
use cardinal_ir::{Listener, ListenerKind};
use cardinal_kong::settings::{Note, Role};
use cardinal_kong::{KongStatus, Settings};
use cardinal_sync::stream::TargetHealth;
use cardinal_sync::{ConfigSource as _, Keeper, Update};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::config::{Preferences, Refusal, Site};
use crate::out;

use super::Event;
use super::cluster::{Publisher, data_plane};
use super::control::proxies::set_health;
use super::control::{Control, sends_on};
use super::data_dir::{self, PidFile};
use super::file_source::{FileSource, Request};
use super::handover::{self, Takeover, TakeoverLock};
use super::logs::Logs;
use super::source::{Origin, Source};
use super::watch::Watch;
use super::{listen_error, node_id, secret_key, writable};

/// What other nodes say about targets that waits to be taken.
const HEALTH_MAX: usize = 1_000;

/// Options of the command line.
#[derive(Debug)]
pub(super) struct Options {
    /// Directory for what outlives the process.
    pub(super) data_dir: Option<PathBuf>,
    /// A process that uses the data directory is replaced whatever it listens on.
    pub(super) takeover: bool,
    /// The store may be a new one although the data directory has a configuration of files.
    pub(super) new_store: bool,
    /// Nothing may be left out.
    pub(super) strict: bool,
    /// The Admin API changes files.
    pub(super) writable: bool,
    /// Called when the node serves.
    pub(super) started: crate::Started,
    /// File descriptors that the process may have; `None` is no limit.
    pub(super) descriptors_max: Option<u64>,
}

/// How threads reach the node.
#[derive(Clone, Debug)]
pub(super) struct Senders {
    /// To the thread that decides.
    pub(super) events: Sender<Event>,
    /// To the source of the configuration.
    pub(super) requests: Sender<Request>,
}

/// What runs besides the engine.
enum Plane {
    /// Nothing.
    None,
    /// The control plane of the process.
    Control(Box<Control>),
    /// The connection to control planes.
    Data(Runtime),
}

/// A running node.
pub(super) struct Node {
    engine: Engine,
    logs: Logs,
    plane: Plane,
    /// On a control plane, the first configuration.
    unserved: RefCell<Option<Update>>,
    /// Removed when the node has ended.
    _pid_file: Option<PidFile>,
}

impl Node {
    /// Loads the configuration, takes the sockets of a predecessor if there is one, and serves. What changes the
    /// configuration from then on is returned, too.
    pub(super) fn start(
        mut site: Site,
        mut preferences: Preferences,
        logs: Logs,
        options: Options,
        (senders, requests): (Senders, Receiver<Request>),
    ) -> Result<(Self, Source)> {
        let Options { data_dir, takeover, new_store, strict, writable, started, descriptors_max } = options;
        let role = preferences.settings.role;
        if role == Role::ControlPlane {
            // It serves no traffic: its engine has the status pages alone.
            preferences.settings.node.listeners.retain(|listener| listener.kind == ListenerKind::Status);
            preferences.settings.workers = Some(1);
        }
        let needs_data_dir = site.uses_store(&preferences.settings) || role == Role::DataPlane;
        if site.ignores_database(&preferences.settings) {
            tracing::warn!("the setting database has no effect: entities come from the files of the command line");
        }
        if writable {
            writable::check(&site, &preferences)?;
        }
        let data_dir = match data_dir {
            None if needs_data_dir => Some(crate::store::default_data_dir(site.env())?),
            given => given,
        };
        let keeper = data_dir.as_deref().map(keeper).transpose()?;
        if !preferences.settings.node_id_given {
            site.node_id = Some(node_id::find(data_dir.as_deref())?);
        }
        if let (Some(data_dir), false) = (&data_dir, preferences.settings.secret_key_given) {
            site.secret_key = secret_key::find(data_dir)?;
        }
        site.identify(&mut preferences.settings);
        // Before the files are read, so that no change is missed.
        let mut watch = Watch::start(senders.requests);
        watch.follow(&site, &preferences.settings);
        let engine_options = engine_options(&site, &preferences.settings, &logs, descriptors_max);
        let (health, said) = channel(HEALTH_MAX);
        let node_settings = Arc::new(preferences.settings.node.clone());
        let folder = Folder { path: data_dir.as_deref(), keeper, new_store };
        let reading = FileMode { strict, writable };
        let (mut source, first, plane) = origin(site, preferences, reading, folder, (watch, requests), health)?;
        let (served, unserved) = match role {
            Role::ControlPlane => (Update::first(Arc::default(), Arc::clone(&node_settings)), Some(first)),
            _ => (first, None),
        };
        let lock = data_dir.as_deref().map(|dir| TakeoverLock::wait(dir, handover::TAKEOVER_WAIT_MAX)).transpose()?;
        let takeover = if takeover { Takeover::Any } else { Takeover::of_same(&source.listeners()) };
        let inherited = data_dir.as_deref().map(|dir| handover::inherit(dir, &takeover)).transpose()?;
        let (inherited, predecessor) = inherited.unwrap_or_default();
        let config_status = Some(Arc::clone(source.status()));
        let metric_sources = match &plane {
            Plane::Control(control) => control.metric_sources(source.publisher()),
            Plane::None | Plane::Data(_) => Vec::new(),
        };
        let engine_options = EngineOptions { inherited, config_status, metric_sources, ..engine_options };
        let (engine, applied) =
            Engine::start(Configuration::from(served), engine_options).map_err(|error| match error {
                EngineError::Refused(found) => source.refusal_of_first(found),
                EngineError::Listen { name, address, error } => {
                    anyhow!(listen_error::text(&source.listeners(), &name, address, &error))
                }
                error => anyhow!(error),
            })?;
        started(engine.services());
        if unserved.is_none() {
            source.ack(applied.into());
        }
        // Before the predecessor ends: it removes a file that is its own.
        let pid_file = data_dir.as_deref().and_then(PidFile::write);
        let node = Self { engine, logs, plane, unserved: RefCell::new(unserved), _pid_file: pid_file };
        node.announce(node_settings.limits.connections_max, descriptors_max);
        node.take_health(role, source.publisher(), said);
        if let Plane::Control(control) = &node.plane {
            control.serve(&node.engine, source.publisher(), predecessor.is_some())?;
        }
        if let Some(predecessor) = predecessor {
            predecessor.tell_ready();
        }
        if let Some(data_dir) = &data_dir {
            handover::offer(data_dir, senders.events);
        }
        drop(lock);
        cardinal_base::memory::release_free();
        Ok((node, source))
    }

    /// Marks targets as other nodes of the store, or control planes, say.
    fn take_health(&self, role: Role, publisher: Option<&Publisher>, mut said: Receiver<TargetHealth>) {
        let Some(runtime) = self.runtime() else { return };
        let handle = (role != Role::ControlPlane).then(|| self.engine.handle());
        let server = publisher.map(|publisher| publisher.server().clone());
        let _inside = runtime.enter();
        task::spawn("health of targets", async move {
            while let Some(said) = said.recv().await {
                let TargetHealth { upstream, target, is_healthy, .. } = &said;
                if let Some(handle) = &handle {
                    match set_health(handle, &said) {
                        Ok(()) => {
                            tracing::info!(upstream, target, is_healthy, "an operator set the health of a target")
                        }
                        Err(error) => tracing::warn!(upstream, target, "the health of a target cannot be set: {error}"),
                    }
                }
                if let Some(server) = &server {
                    server.set_health(said);
                }
            }
        });
    }

    /// What the source of the configuration is to be polled on, if it matters.
    pub(super) fn runtime(&self) -> Option<&Runtime> {
        match &self.plane {
            Plane::None => None,
            Plane::Control(control) => Some(control.runtime()),
            Plane::Data(runtime) => Some(runtime),
        }
    }

    /// Follows the source of the configuration: serves it, or sends it on alone. To be called once.
    pub(super) async fn follow(&self, source: &mut Source) {
        let unserved = self.unserved.take();
        match unserved {
            Some(first) => source.send_on(first).await,
            None => self.engine.follow(source).await,
        }
    }

    fn announce(&self, configured: u32, descriptors_max: Option<u64>) {
        let served = self.engine.connections_max();
        if let Some(shortage) = super::descriptors::shortage(configured, served, descriptors_max) {
            tracing::info!("{shortage}");
        }
        for (listener, address) in self.engine.addresses() {
            let what = words(&listener);
            tracing::info!(%address, "listening on {address} ({what})");
        }
    }

    pub(super) fn reopen_logs(&self) {
        self.logs.reopen();
        tracing::info!("log files reopened");
    }

    /// Copies of the listening sockets.
    pub(super) fn sockets(&self) -> std::io::Result<Vec<Handover>> {
        self.engine.handover()
    }

    /// Ends because a successor serves, which answers for the node from now on.
    pub(super) fn give_way(self) {
        self.engine.stop_status();
        if let Plane::Control(control) = &self.plane {
            control.stop();
            control.save_last(true);
        }
        self.drain("replaced by a new process");
    }

    /// Drains the requests in progress, up to the drain timeout.
    pub(super) fn drain(self, why: &str) {
        if let Plane::Control(control) = &self.plane {
            control.save_last(false);
        }
        let budget_ms = self.engine.plan().map_or(0, |plan| plan.node().limits.drain_timeout_ms);
        tracing::info!(budget_ms, "{why}: draining connections (timeout {budget_ms} ms)");
        match self.engine.drain(Duration::from_millis(budget_ms)) {
            0 => tracing::info!("stopped: all requests ended"),
            left => tracing::warn!(
                left,
                "stopped: drain timeout exceeded, {} closed",
                out::count(count(left), "connection")
            ),
        }
        if let Plane::Control(control) = &self.plane {
            control.close();
        }
    }
}

fn engine_options(site: &Site, settings: &Settings, logs: &Logs, descriptors_max: Option<u64>) -> EngineOptions {
    EngineOptions {
        workers: settings.workers.map_or(0, |n| n as usize),
        plugins: site.plugins.to_vec(),
        access_log: logs.access(),
        descriptors_max,
        status_form: Some(&KongStatus),
        is_idle: settings.role == Role::ControlPlane,
        ..EngineOptions::default()
    }
}

/// How files are used.
#[derive(Clone, Copy)]
struct FileMode {
    /// Nothing may be left out.
    strict: bool,
    /// The Admin API changes them.
    writable: bool,
}

/// The data directory.
struct Folder<'f> {
    path: Option<&'f Path>,
    /// Keeps the last known good configuration in it.
    keeper: Option<Keeper>,
    /// A new store may be made in it although the node has served files.
    new_store: bool,
}

/// Where the configuration of the node comes from, the first one, and what runs besides the engine.
fn origin(
    site: Site,
    preferences: Preferences,
    FileMode { strict, writable }: FileMode,
    folder: Folder<'_>,
    (watch, requests): (Watch, Receiver<Request>),
    health: Sender<TargetHealth>,
) -> Result<(Source, Update, Plane)> {
    let Folder { path: data_dir, keeper, new_store } = folder;
    let settings = &preferences.settings;
    if settings.role == Role::DataPlane {
        let folder = data_dir.context("a data plane needs a data directory")?;
        let (runtime, source, first) = data_plane(settings, site.plugins, folder, health)?;
        let source = Source::new(Origin::ControlPlanes(Box::new(source)), &first, None);
        return Ok((source, first, Plane::Data(runtime)));
    }
    if let Some(folder) = data_dir.filter(|_| site.uses_store(settings)) {
        let registry = site.registry(settings)?;
        let (control, source, first, publisher) =
            Control::start(registry, preferences.settings, (folder, new_store), health)?;
        let source = Source::new(Origin::Store(Box::new(source)), &first, publisher);
        return Ok((source, first, Plane::Control(Box::new(control))));
    }
    let is_needed = !settings.admin.listeners.is_empty() || sends_on(settings);
    let (api, publisher, plane) = if is_needed {
        let (control, api, publisher) = Control::of_files(site.registry(settings)?, settings.clone(), writable)?;
        (Some(api), publisher, Plane::Control(Box::new(control)))
    } else {
        (None, None, Plane::None)
    };
    let (source, first) = FileSource::start(site, preferences, keeper, strict, (watch, requests, api))?;
    Ok((Source::new(Origin::Files(Box::new(source)), &first, publisher), first, plane))
}

/// What keeps the last known good configuration in a data directory.
fn keeper(folder: &Path) -> Result<Keeper> {
    let keeper =
        Keeper::open(folder).with_context(|| format!("cannot make the data directory {}", folder.display()))?;
    data_dir::protect(folder);
    Ok(keeper)
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Logs warnings about settings.
pub(super) fn warn_of_settings(notes: &[Note]) {
    for note in notes {
        tracing::warn!("setting {note}");
    }
}

/// Errors of one configuration in a line of the log.
const LOGGED_MAX: usize = 100;

/// Logs why a configuration is refused: for people with excerpts of the files, for programs as one line with all errors
/// as values.
pub(super) fn log_refusal(what: &str, refusal: &Refusal) {
    if cardinal_base::log::is_json() {
        let mut problems = refusal.problems();
        let count = problems.len();
        problems.truncate(LOGGED_MAX);
        let errors = serde_json::to_string(&problems).unwrap_or_default();
        tracing::error!(error_count = count, errors.json = errors.as_str(), "{what}: {}", refusal.summary());
    } else {
        tracing::error!("{what}:\n{}", refusal.render().trim_end());
    }
}

/// What a listener serves: `proxy, https, http2`.
fn words(listener: &Listener) -> String {
    let mut words = match (listener.kind, listener.tls.is_some()) {
        (ListenerKind::Http, false) => vec!["proxy", "http"],
        (ListenerKind::Http, true) => vec!["proxy", "https"],
        (ListenerKind::Stream, false) => vec!["stream", "tcp"],
        (ListenerKind::Stream, true) => vec!["stream", "tls"],
        (ListenerKind::Detect, false) => vec!["any protocol"],
        (ListenerKind::Detect, true) => vec!["any protocol", "tls"],
        (ListenerKind::Udp, _) => vec!["stream", "udp"],
        (ListenerKind::Status, false) => vec!["status", "http"],
        (ListenerKind::Status, true) => vec!["status", "https"],
    };
    if listener.http2 {
        words.push("http2");
    }
    if listener.proxy_protocol {
        words.push("PROXY protocol");
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_in_words() {
        let mut listener = Settings::default().node.listeners.remove(0);
        assert_eq!(words(&listener), "proxy, http");
        (listener.tls, listener.http2) = (Some(cardinal_ir::ListenerTls::Node), true);
        assert_eq!(words(&listener), "proxy, https, http2");
        listener.kind = ListenerKind::Status;
        listener.http2 = false;
        assert_eq!(words(&listener), "status, https");
    }
}
