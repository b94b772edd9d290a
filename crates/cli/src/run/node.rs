//! [`Node`]: the engine, with the configuration it serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_engine::{Applied, Engine, Handover, Options as EngineOptions};
use cardinal_gateway::Settings;
use cardinal_ir::{Diagnostic, Ir, Listener, ListenerKind, Severity};

use crate::config::{Digest, Loaded, Preferences, Refusal, Site, Texts, render_diagnostics};
use crate::out;

use super::Event;
use super::handover::{self, Turn};
use super::last_good::LastGood;
use super::logs::Logs;
use super::watch::Watch;

/// What the command line says about the node.
#[derive(Debug)]
pub(super) struct Options {
    /// Directory for what outlives the process.
    pub(super) data_dir: Option<PathBuf>,
    /// Nothing may be left out.
    pub(super) strict: bool,
    /// Called when the node serves.
    pub(super) started: crate::Started,
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
    generation: u64,
    /// What is served, so that the next generation shares what stays.
    ir: Arc<Ir>,
    /// As the process was started with them.
    settings: Settings,
}

impl Node {
    /// Loads the configuration, takes the sockets of a predecessor if there is one, and serves.
    pub(super) fn start(
        site: Site,
        preferences: Preferences,
        logs: Logs,
        options: Options,
        events: SyncSender<Event>,
    ) -> Result<Self> {
        let Options { data_dir, strict, started } = options;
        let last_good = data_dir.as_deref().map(LastGood::open).transpose()?;
        let settings = &preferences.settings;
        // Before the files are read, so that no change is missed.
        let mut watch = Watch::start(events.clone());
        watch.follow(&site, settings);
        let (loaded, texts) = first_configuration(&site, &preferences, last_good.as_ref(), strict)?;
        let turn = data_dir.as_deref().map(|dir| Turn::wait(dir, handover::TURN_MAX)).transpose()?;
        let (inherited, predecessor) = data_dir.as_deref().map(handover::inherit).transpose()?.unwrap_or_default();
        let engine_options = EngineOptions {
            workers: settings.workers.map_or(0, |n| n as usize),
            plugins: site.plugins.to_vec(),
            access_log: logs.access(),
            inherited,
        };
        let (engine, applied) = Engine::start(Arc::clone(&loaded.ir), engine_options).map_err(|error| match error {
            cardinal_engine::EngineError::Refused(ref diagnostics) => {
                anyhow!("{error}\n{}", render_diagnostics(diagnostics, &texts.sources).trim_end())
            }
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
            generation: 0,
            ir: Arc::clone(&loaded.ir),
            settings: preferences.settings.clone(),
        };
        node.served(&loaded, &applied, &texts);
        node.announce();
        if let Some(predecessor) = predecessor {
            predecessor.tell_ready();
        }
        if let Some(data_dir) = &data_dir {
            handover::offer(data_dir, events);
        }
        drop(turn);
        drop((loaded, texts));
        cardinal_base::memory::release_free();
        Ok(node)
    }

    /// Serves what the files say now. Unless `forced`, only if they changed. A configuration that is refused changes
    /// nothing.
    pub(super) fn reload(&mut self, forced: bool) {
        match self.try_reload(forced) {
            Ok(()) => {}
            Err(refusal) => tracing::error!(
                generation = self.generation,
                "the new configuration is refused, generation {} stays: {}\n{}",
                self.generation,
                refusal.summary(),
                refusal.render().trim_end()
            ),
        }
    }

    fn try_reload(&mut self, forced: bool) -> Result<(), Refusal> {
        let preferences = self.site.settings()?;
        // Links may lead elsewhere now.
        self.watch.follow(&self.site, &preferences.settings);
        let texts = self.site.texts(&preferences)?;
        if !forced && texts.digest == self.tried {
            return Ok(());
        }
        self.tried = texts.digest;
        for note in &preferences.notes {
            tracing::warn!("setting {note}");
        }
        self.warn_of_restart(&preferences.settings);
        let loaded = self.site.load(&preferences.settings, &texts.sources, self.strict)?.sharing(&self.ir);
        match self.engine.apply(Arc::clone(&loaded.ir)) {
            Ok(applied) => {
                self.served(&loaded, &applied, &texts);
                drop((loaded, texts));
                cardinal_base::memory::release_free();
                Ok(())
            }
            Err(diagnostics) => Err(Refusal::Incomplete(diagnostics, texts.sources)),
        }
    }

    /// Some settings stay as they are for the life of the process.
    fn warn_of_restart(&self, new: &Settings) {
        let changed = fixed_at_start(&self.settings, new);
        if !changed.is_empty() {
            tracing::warn!("these settings changed, and count from the next start: {}", changed.join(", "));
        }
    }

    fn served(&mut self, loaded: &Loaded, applied: &Applied, texts: &Texts) {
        self.generation = applied.generation;
        self.ir = Arc::clone(&loaded.ir);
        report(&loaded.diagnostics);
        report(&applied.diagnostics);
        tracing::info!(
            generation = applied.generation,
            "generation {}: {}, from {}",
            applied.generation,
            loaded.summary(),
            out::count(texts.sources.len(), "file")
        );
        if let Some(last_good) = &mut self.last_good
            && let Err(error) = last_good.save(texts)
        {
            tracing::warn!("the last good configuration is not saved: {error:#}");
        }
    }

    fn announce(&self) {
        for (listener, address) in self.engine.addresses() {
            let what = words(listener);
            tracing::info!(%address, "listening on {address} ({what})");
        }
    }

    pub(super) fn reopen_logs(&self) {
        self.logs.reopen();
        tracing::info!("log files were opened anew");
    }

    /// Copies of the listening sockets.
    pub(super) fn sockets(&self) -> std::io::Result<Vec<Handover>> {
        self.engine.handover()
    }

    /// Ends because a successor serves, which answers for the node from now on.
    pub(super) fn give_way(self) {
        self.engine.stop_status();
        self.drain("a successor serves");
    }

    /// Ends after the requests under way, or after the time that settings give them.
    pub(super) fn drain(self, why: &str) {
        let budget_ms = self.engine.plan().map_or(0, |plan| plan.node().limits.drain_timeout_ms);
        tracing::info!(budget_ms, "{why}: no new connections, requests under way have {budget_ms} ms to end");
        match self.engine.drain(Duration::from_millis(budget_ms)) {
            0 => tracing::info!("stopped: all requests ended"),
            left => tracing::warn!(left, "stopped: {} cut off", out::count(count(left), "connection")),
        }
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the files say; when that cannot be served, what was served last.
fn first_configuration(
    site: &Site,
    preferences: &Preferences,
    last_good: Option<&LastGood>,
    strict: bool,
) -> Result<(Loaded, Texts)> {
    let paths = site.paths(&preferences.settings);
    if paths.is_empty() && preferences.settings.declarative_config_string.is_none() {
        tracing::warn!("no configuration: every request is answered with 404 (see --config)");
    }
    cardinal_base::log::progress(&format!("reading {}...", out::count(paths.len(), "file")));
    let refusal = match read(site, preferences, strict) {
        Ok(good) => return Ok(good),
        Err(refusal) => refusal,
    };
    let refused = || anyhow!("{}\n{}", refusal.summary(), refusal.render().trim_end());
    let Some(saved) = last_good.filter(|_| !strict).and_then(LastGood::texts) else { return Err(refused()) };
    tracing::error!("the configuration is refused: {}\n{}", refusal.summary(), refusal.render().trim_end());
    let loaded = site.load(&preferences.settings, &saved.sources, false).map_err(|worse| {
        refused().context(format!("the last good configuration cannot be served either: {}", worse.summary()))
    })?;
    tracing::warn!(
        "THE LAST GOOD CONFIGURATION IS SERVED INSTEAD, from {}: put the files right, they are read when they change",
        out::count(saved.sources.len(), "saved file")
    );
    Ok((loaded, saved))
}

fn read(site: &Site, preferences: &Preferences, strict: bool) -> Result<(Loaded, Texts), Refusal> {
    let texts = site.texts(preferences)?;
    let loaded = site.load(&preferences.settings, &texts.sources, strict)?;
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
        ("addresses to listen on", old.listeners != new.listeners),
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
    let mut words = match (listener.kind, listener.tls) {
        (ListenerKind::Http, false) => vec!["proxy", "http"],
        (ListenerKind::Http, true) => vec!["proxy", "https"],
        (ListenerKind::Stream, false) => vec!["stream", "tcp"],
        (ListenerKind::Stream, true) => vec!["stream", "tls"],
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
                tracing::warn!("there is no last good configuration: {error:#}");
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
        new.listeners.pop();
        assert_eq!(fixed_at_start(&old, &new), ["addresses to listen on", "log_level"]);
    }

    #[test]
    fn listeners_are_told_in_words() {
        let mut listener = Settings::default().listeners.remove(0);
        assert_eq!(words(&listener), "proxy, http");
        (listener.tls, listener.http2) = (true, true);
        assert_eq!(words(&listener), "proxy, https, http2");
        listener.kind = ListenerKind::Status;
        listener.http2 = false;
        assert_eq!(words(&listener), "status, https");
    }
}
