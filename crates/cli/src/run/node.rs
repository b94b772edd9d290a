//! [`Node`]: the engine, with the configuration it serves.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_engine::{Applied, ApplyError, ConfigOutcome, ConfigProblem, Engine, Handover, Options as EngineOptions};
use cardinal_ir::{Diagnostic, Listener, ListenerKind, Severity};
use cardinal_kong::Settings;
use cardinal_kong::settings::Note;

use crate::config::{Digest, LoweredConfig, Preferences, Refusal, Site, Texts};
use crate::out;

use super::Event;
use super::handover::{self, TakeoverLock};
use super::last_good::LastGood;
use super::logs::Logs;
use super::node_id;
use super::watch::Watch;

/// Options of the command line.
#[derive(Debug)]
pub(super) struct Options {
    /// Directory for what outlives the process.
    pub(super) data_dir: Option<PathBuf>,
    /// Nothing may be left out.
    pub(super) strict: bool,
    /// Called when the node serves.
    pub(super) started: crate::Started,
    /// File descriptors that the process may have; `None` is no limit.
    pub(super) descriptors_max: Option<u64>,
}

/// A running node.
pub(super) struct Node {
    site: Site,
    strict: bool,
    engine: Engine,
    logs: Logs,
    watch: Watch,
    last_good: Option<LastGood>,
    /// Of the texts that were tried last, served or not.
    tried: Digest,
    /// Of the texts that are served.
    texts: Digest,
    /// Why the configuration could not be read at the last attempt, if it may be readable a little later.
    unreadable: Option<String>,
    /// Warnings about settings that were logged last.
    notes: Vec<Note>,
    generation: u64,
    /// As the process was started with them.
    settings: Settings,
}

impl Node {
    /// Loads the configuration, takes the sockets of a predecessor if there is one, and serves.
    pub(super) fn start(
        mut site: Site,
        mut preferences: Preferences,
        logs: Logs,
        options: Options,
        events: SyncSender<Event>,
    ) -> Result<Self> {
        let Options { data_dir, strict, started, descriptors_max } = options;
        let last_good = data_dir.as_deref().map(LastGood::open).transpose()?;
        if !preferences.settings.node_id_given {
            site.node_id = Some(node_id::find(data_dir.as_deref())?);
            site.identify(&mut preferences.settings);
        }
        let settings = &preferences.settings;
        // Before the files are read, so that no change is missed.
        let mut watch = Watch::start(events.clone());
        watch.follow(&site, settings);
        let First { loaded, texts, refused } = first_configuration(&site, &preferences, last_good.as_ref(), strict)?;
        let takeover =
            data_dir.as_deref().map(|dir| TakeoverLock::wait(dir, handover::TAKEOVER_WAIT_MAX)).transpose()?;
        let (inherited, predecessor) = data_dir.as_deref().map(handover::inherit).transpose()?.unwrap_or_default();
        let engine_options = EngineOptions {
            workers: settings.workers.map_or(0, |n| n as usize),
            plugins: site.plugins.to_vec(),
            access_log: logs.access(),
            descriptors_max,
            inherited,
            ..EngineOptions::default()
        };
        let (engine, applied) =
            Engine::start(loaded.configuration.clone(), engine_options).map_err(|error| match error {
                cardinal_engine::EngineError::Refused(diagnostics) => anyhow!(loaded.refused(diagnostics, &texts)),
                error => anyhow!(error),
            })?;
        started(engine.services());
        let mut node = Self {
            site,
            strict,
            engine,
            logs,
            watch,
            last_good,
            tried: texts.digest,
            texts: texts.digest,
            unreadable: None,
            notes: preferences.notes.clone(),
            generation: 0,
            settings: preferences.settings.clone(),
        };
        node.served(&loaded, &applied, &texts, refused);
        node.announce(descriptors_max);
        if let Some(predecessor) = predecessor {
            predecessor.tell_ready();
        }
        if let Some(data_dir) = &data_dir {
            handover::offer(data_dir, events);
        }
        drop(takeover);
        drop((loaded, texts));
        cardinal_base::memory::release_free();
        Ok(node)
    }

    /// Reloads the configuration. Unless `forced`, only if the files changed. A rejected configuration changes
    /// nothing. `true` when it could not be read, but may be readable a little later.
    pub(super) fn reload(&mut self, forced: bool) -> bool {
        let Err(refusal) = self.try_reload(forced) else {
            self.unreadable = None;
            return false;
        };
        let reason = refusal.is_transient().then(|| refusal.summary());
        if reason.is_some() && reason == self.unreadable {
            // Another attempt that failed in the same way.
            return true;
        }
        self.engine.report_config(ConfigOutcome::Rejected(refusal.problems()));
        log_refusal(&format!("the new configuration is refused, generation {} stays", self.generation), &refusal);
        if reason.is_some() {
            tracing::info!("retrying until the configuration can be read");
        }
        self.unreadable = reason;
        self.unreadable.is_some()
    }

    fn try_reload(&mut self, forced: bool) -> Result<(), Refusal> {
        let preferences = self.site.settings()?;
        // Links may lead elsewhere now.
        self.watch.follow(&self.site, &preferences.settings);
        let texts = self.site.texts(&preferences)?;
        let unchanged = texts.digest == self.tried;
        let streams = self.site.streams(&preferences.settings);
        if forced && !streams.is_empty() {
            let path = streams.join(", ");
            let why = "it can be read only once; restart the process to change it".to_owned();
            if unchanged {
                return Err(Refusal::Read { path: path.into(), why, transient: false });
            }
            tracing::warn!("cannot read {path} again: {why}; the files that changed are reloaded");
        }
        if unchanged && !forced {
            if self.unreadable.is_some() && texts.digest == self.texts {
                self.engine.report_config(ConfigOutcome::Unchanged);
                tracing::info!("the configuration can be read again and has not changed");
            }
            return Ok(());
        }
        self.tried = texts.digest;
        if preferences.notes != self.notes {
            warn_of_settings(&preferences.notes);
            self.notes.clone_from(&preferences.notes);
        }
        self.warn_of_restart(&preferences.settings);
        let loaded = self.site.lowered(&preferences.settings, &texts.sources, self.strict)?;
        match self.engine.apply(loaded.configuration.clone()) {
            Ok(applied) => {
                self.served(&loaded, &applied, &texts, None);
                drop((loaded, texts));
                cardinal_base::memory::release_free();
                Ok(())
            }
            Err(ApplyError::Refused(diagnostics)) => {
                let refusal = loaded.refused(diagnostics, &texts);
                if refusal.is_transient() {
                    // The same text is to be tried again.
                    self.tried = self.texts;
                }
                Err(refusal)
            }
            Err(error) => Err(Refusal::Internal(error.into())),
        }
    }

    /// Some settings stay as they are for the life of the process.
    fn warn_of_restart(&self, new: &Settings) {
        let changed = fixed_at_start(&self.settings, new);
        if !changed.is_empty() {
            tracing::warn!("these settings changed and take effect after a restart: {}", changed.join(", "));
        }
    }

    /// Notes what is served from now on. `refused`: the files could not be, and this is the last known good
    /// configuration.
    fn served(
        &mut self,
        loaded: &LoweredConfig,
        applied: &Applied,
        texts: &Texts,
        refused: Option<Vec<ConfigProblem>>,
    ) {
        self.generation = applied.generation;
        self.texts = texts.digest;
        let all = loaded.diagnostics.iter().chain(&applied.diagnostics);
        let left_out = all.filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        self.engine.report_config(match refused {
            None => ConfigOutcome::Applied { left_out },
            Some(problems) => ConfigOutcome::LastGood { problems, left_out },
        });
        report(&loaded.diagnostics);
        report(&loaded.placed(applied.diagnostics.clone()));
        tracing::info!(
            generation = applied.generation,
            "generation {}: {}, from {}",
            applied.generation,
            loaded.summary,
            out::count(texts.sources.len(), "file")
        );
        if let Some(last_good) = &mut self.last_good
            && let Err(error) = last_good.save(texts)
        {
            tracing::warn!("the last known good configuration cannot be saved: {error:#}");
        }
    }

    fn announce(&self, descriptors_max: Option<u64>) {
        let configured = self.settings.node.limits.connections_max;
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
        self.drain("replaced by a new process");
    }

    /// Drains the requests in progress, up to the drain timeout.
    pub(super) fn drain(self, why: &str) {
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
    }
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

/// What a node serves first.
struct First {
    loaded: LoweredConfig,
    texts: Texts,
    /// What is wrong with the files, if this is the last known good configuration instead.
    refused: Option<Vec<ConfigProblem>>,
}

/// The configuration of the files or, if it cannot be served, the last known good one.
fn first_configuration(
    site: &Site,
    preferences: &Preferences,
    last_good: Option<&LastGood>,
    strict: bool,
) -> Result<First> {
    let paths = site.paths(&preferences.settings);
    if paths.is_empty() && preferences.settings.declarative_config_string.is_none() {
        tracing::warn!("no configuration: every request is answered with 404 (see --config)");
    }
    cardinal_base::log::progress(&format!("reading {}...", out::count(paths.len(), "file")));
    let refusal = match read(site, preferences, strict) {
        Ok((loaded, texts)) => return Ok(First { loaded, texts, refused: None }),
        Err(refusal) => refusal,
    };
    let Some(saved) = last_good.filter(|_| !strict).and_then(LastGood::texts) else { return Err(anyhow!(refusal)) };
    let loaded = match site.lowered(&preferences.settings, &saved.sources, false) {
        Ok(loaded) => loaded,
        Err(worse) => {
            let worse = format!("the last known good configuration cannot be served either: {}", worse.summary());
            return Err(anyhow!(refusal).context(worse));
        }
    };
    log_refusal("the configuration is refused", &refusal);
    let streams = site.streams(&preferences.settings);
    let fix = match streams.len() {
        0 => "fix the files (they are reloaded automatically)".to_owned(),
        n if n == paths.len() => format!("fix {} and restart the process", streams.join(", ")),
        _ => format!("fix the files (they are reloaded automatically, {} is not)", streams.join(", ")),
    };
    let count = out::count(saved.sources.len(), "saved file");
    tracing::warn!("serving the last known good configuration, from {count}; {fix}");
    Ok(First { loaded, texts: saved, refused: Some(refusal.problems()) })
}

fn read(site: &Site, preferences: &Preferences, strict: bool) -> Result<(LoweredConfig, Texts), Refusal> {
    let texts = site.texts(preferences)?;
    let loaded = site.lowered(&preferences.settings, &texts.sources, strict)?;
    Ok((loaded, texts))
}

/// One line for everything that is left out or looks wrong.
fn report(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Error => tracing::error!("left out: {diagnostic}"),
            Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
}

/// What differs between two settings of what is looked at only when the process starts.
fn fixed_at_start(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let all = [
        ("addresses to listen on", old.node.listeners != new.node.listeners),
        ("nginx_worker_processes", old.workers != new.workers),
        ("log_level", old.log_level != new.log_level),
        ("proxy_access_log", old.access_log != new.access_log),
        ("proxy_error_log", old.error_log != new.error_log),
        ("DNS", old.node.resolver != new.node.resolver),
        ("node_id", old.node.id != new.node.id),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
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

impl LastGood {
    fn texts(&self) -> Option<Texts> {
        match self.load() {
            Ok(sources) => Some(Texts { sources, digest: Digest::default() }),
            Err(error) => {
                tracing::warn!("there is no last known good configuration: {error:#}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_start_is_told() {
        let old = Settings::default();
        let mut new = old.clone();
        assert!(fixed_at_start(&old, &new).is_empty());
        new.log_level = "debug".to_owned();
        new.node.listeners.pop();
        assert_eq!(fixed_at_start(&old, &new), ["addresses to listen on", "log_level"]);
    }

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
