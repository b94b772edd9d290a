//! [`FileSource`]: files and settings as the source of the configuration.
//!
//! They are read at the start, when they change, and when that is requested. What cannot be read is read again with a
//! backoff. What is served is saved, and served again by a process whose files cannot be.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_base::{Clock as _, SystemClock};
use cardinal_ir::{Diagnostic, Diagnostics, Ir, NodeSettings, Rejected, Secrets, Severity};
use cardinal_kong::Settings;
use cardinal_kong::declarative::Hidden;
use cardinal_kong::settings::Note;
use cardinal_sync::{
    Ack, Backoff, ConfigOutcome, ConfigProblem, ConfigSource, ConfigStatus, Keeper, LastGood, LoadError, Next,
    Refusal as EngineRefusal, Saved, Update,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

use crate::config::{Digest, LoweredConfig, Preferences, Refusal, Site, Texts};
use crate::out;

use super::last_good_text;
use super::node::{log_refusal, warn_of_settings};
use super::quiet::Quiet;
use super::watch::Watch;

/// What a [`FileSource`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Read everything again (SIGHUP).
    Reload,
    /// Files may have changed.
    Changed,
}

/// Files and settings as the source of the configuration.
pub(super) struct FileSource {
    site: Site,
    strict: bool,
    watch: Watch,
    requests: Receiver<Request>,
    clock: SystemClock,
    status: Arc<ConfigStatus>,
    keeper: Option<Keeper>,
    quiet: Quiet,
    retry: Backoff,
    /// What is read again is to be served whether it changed or not.
    retry_forced: bool,
    /// Of the texts that were tried last, served or not.
    tried: Digest,
    /// Of the texts that are served.
    texts: Digest,
    /// Why the configuration could not be read at the last attempt, if it may be readable a little later.
    unreadable: Option<String>,
    /// Warnings about settings that were logged last.
    notes: Vec<Note>,
    /// Number of the generation that is served.
    generation: u64,
    /// As the process was started with them.
    settings: Settings,
    served: Arc<Ir>,
    /// Its secrets.
    secrets: Secrets,
    node: Arc<NodeSettings>,
    /// The update that is to be acknowledged.
    pending: Option<Pending>,
}

/// An update that is to be acknowledged.
struct Pending {
    generation: Arc<Ir>,
    secrets: Secrets,
    node: Arc<NodeSettings>,
    /// Without its records, which are in the update.
    loaded: LoweredConfig,
    texts: Texts,
    about: About,
    /// Why the last known good configuration is served and not the files.
    refused: Option<Vec<ConfigProblem>>,
    /// It is to be saved when it is served.
    is_new: bool,
    forced: bool,
}

/// What is saved with the records of a configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    /// `2 services, 3 routes`.
    summary: String,
    /// Files that it was read from.
    files: usize,
    /// Entities that were left out while it was lowered.
    left_out: usize,
    /// Values that were filled in, for messages of the engine.
    hidden: Hidden,
}

impl About {
    fn of(loaded: &LoweredConfig, texts: &Texts) -> Self {
        let (summary, hidden) = (loaded.summary.clone(), loaded.hidden.clone());
        Self { summary, files: texts.sources.len(), left_out: errors(&loaded.diagnostics), hidden }
    }
}

/// A configuration to start with.
struct First {
    loaded: LoweredConfig,
    texts: Texts,
    about: About,
    refused: Option<Vec<ConfigProblem>>,
    is_new: bool,
}

impl FileSource {
    /// Reads the configuration of a process that starts: that of the files or, if it cannot be read, the last known good
    /// one. The update is to be acknowledged.
    pub(super) fn start(
        site: Site,
        preferences: Preferences,
        keeper: Option<Keeper>,
        strict: bool,
        (watch, requests): (Watch, Receiver<Request>),
    ) -> Result<(Self, Update)> {
        let mut first = first_configuration(&site, &preferences, keeper.as_ref(), strict)?;
        let Preferences { settings, notes, .. } = preferences;
        let configuration = std::mem::take(&mut first.loaded.configuration);
        let (ir, node) = (configuration.ir, configuration.node);
        let secrets = configuration.secrets;
        let update = Update::first(Arc::clone(&ir), Arc::clone(&node)).with_secrets(secrets.clone());
        let First { loaded, texts, about, refused, is_new } = first;
        let source = Self {
            site,
            strict,
            watch,
            requests,
            clock: SystemClock::new(),
            status: Arc::default(),
            keeper,
            quiet: Quiet::default(),
            retry: Backoff::default(),
            retry_forced: false,
            tried: texts.digest,
            texts: texts.digest,
            unreadable: None,
            notes,
            generation: 0,
            settings,
            served: Arc::default(),
            secrets: Secrets::default(),
            node: Arc::clone(&node),
            pending: Some(Pending {
                generation: ir,
                secrets,
                node,
                loaded,
                texts,
                about,
                refused,
                is_new,
                forced: true,
            }),
        };
        Ok((source, update))
    }

    /// What the source reports to.
    pub(super) fn status(&self) -> &Arc<ConfigStatus> {
        &self.status
    }

    /// Why the engine does not start with the first configuration.
    pub(super) fn refusal_of_first(&self, found: Diagnostics) -> anyhow::Error {
        match &self.pending {
            Some(pending) => anyhow!(pending.loaded.refused(found, &pending.texts)),
            None => anyhow!(found),
        }
    }

    /// The next thing to do, when it is time or when it is requested; `None` when no request can come any more.
    async fn wait(&mut self) -> Option<Work> {
        loop {
            let now = self.clock.tick();
            let keeper_ms = self.keeper.as_ref().and_then(|keeper| keeper.wait_ms(now));
            let wait = self.quiet.wait_ms(now).into_iter().chain(self.retry.wait_ms(now)).chain(keeper_ms).min();
            let request = match wait {
                None => Ok(self.requests.recv().await),
                Some(ms) => tokio::time::timeout(Duration::from_millis(ms), self.requests.recv()).await,
            };
            let now = self.clock.tick();
            match request {
                Ok(None) => return None,
                Ok(Some(Request::Reload)) => {
                    self.quiet = Quiet::default();
                    self.retry.reset();
                    return Some(Work::Read { forced: true });
                }
                Ok(Some(Request::Changed)) => self.quiet.disturb(now),
                Err(_) if self.quiet.is_over(now) => {
                    self.quiet = Quiet::default();
                    return Some(Work::Read { forced: self.retry.wait_ms(now).is_some() && self.retry_forced });
                }
                Err(_) if self.retry.is_due(now) => return Some(Work::Read { forced: self.retry_forced }),
                Err(_) if keeper_ms.is_some() => return Some(Work::Save),
                Err(_) => {}
            }
        }
    }

    /// Reads the configuration. Unless `forced`, only if the files changed. A configuration that is rejected here
    /// changes nothing.
    fn read(&mut self, forced: bool) -> Option<Update> {
        match self.try_read(forced) {
            Ok(Some(update)) => return Some(update),
            Ok(None) => self.succeeded(),
            Err(refusal) => self.failed(&refusal, forced),
        }
        None
    }

    fn try_read(&mut self, forced: bool) -> Result<Option<Update>, Refusal> {
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
                self.status.report(ConfigOutcome::Unchanged);
                tracing::info!("the configuration can be read again and has not changed");
            }
            return Ok(None);
        }
        self.tried = texts.digest;
        if preferences.notes != self.notes {
            warn_of_settings(&preferences.notes);
            self.notes.clone_from(&preferences.notes);
        }
        self.warn_of_restart(&preferences.settings);
        let mut loaded = self.site.lowered(&preferences.settings, &texts.sources, self.strict)?;
        let configuration = std::mem::take(&mut loaded.configuration);
        let secrets = configuration.secrets;
        let mut update = Update::between(&self.served, &configuration.ir).with_secrets(secrets.clone());
        let node = configuration.node;
        if node != self.node {
            update = update.with_node(Arc::clone(&node));
        }
        let (generation, about) = (Arc::clone(update.generation()), About::of(&loaded, &texts));
        let (refused, is_new) = (None, true);
        self.pending = Some(Pending { generation, secrets, node, loaded, texts, about, refused, is_new, forced });
        Ok(Some(update))
    }

    /// Some settings stay as they are for the life of the process.
    fn warn_of_restart(&self, new: &Settings) {
        let changed = fixed_at_start(&self.settings, new);
        if !changed.is_empty() {
            tracing::warn!("these settings changed and take effect after a restart: {}", changed.join(", "));
        }
    }

    fn succeeded(&mut self) {
        self.unreadable = None;
        self.retry.reset();
    }

    /// Notes that a configuration is refused. One that may be readable a little later is read again.
    fn failed(&mut self, refusal: &Refusal, forced: bool) {
        let reason = refusal.is_transient().then(|| refusal.summary());
        let is_known = reason.is_some() && reason == self.unreadable;
        if !is_known {
            self.status.report(ConfigOutcome::Rejected(refusal.problems()));
            log_refusal(&format!("the new configuration is refused, generation {} stays", self.generation), refusal);
            if reason.is_some() {
                tracing::info!("retrying until the configuration can be read");
            }
        }
        match reason {
            Some(reason) => {
                self.unreadable = Some(reason);
                self.retry.failed(self.clock.tick());
                self.retry_forced = forced;
            }
            None => self.succeeded(),
        }
    }

    fn refused(&mut self, pending: &Pending, refusal: EngineRefusal) {
        let refusal = match refusal {
            EngineRefusal::Invalid(found) => pending.loaded.refused(found, &pending.texts),
            EngineRefusal::Failed(why) => Refusal::Internal(anyhow!(why)),
        };
        if refusal.is_transient() {
            // The same text is to be tried again.
            self.tried = self.texts;
        }
        self.failed(&refusal, pending.forced);
    }

    /// Notes what is served from now on.
    fn applied(&mut self, pending: &mut Pending, generation: u64, diagnostics: Vec<Diagnostic>) {
        self.succeeded();
        self.generation = generation;
        self.texts = pending.texts.digest;
        (self.served, self.node) = (Arc::clone(&pending.generation), Arc::clone(&pending.node));
        self.secrets = std::mem::take(&mut pending.secrets);
        let left_out = pending.about.left_out + errors(&diagnostics);
        self.status.report(match pending.refused.take() {
            None => ConfigOutcome::Applied { left_out },
            Some(problems) => ConfigOutcome::LastGood { problems, left_out },
        });
        report(&pending.loaded.diagnostics);
        report(&pending.loaded.placed(diagnostics));
        let About { summary, files, .. } = &pending.about;
        tracing::info!(generation, "generation {generation}: {summary}, from {}", out::count(*files, "file"));
        if pending.is_new {
            self.keep(&pending.about);
        }
    }

    /// Saves what is served.
    fn keep(&mut self, about: &About) {
        let Some(keeper) = &mut self.keeper else { return };
        // What was made of text here always has a JSON form.
        let about = serde_json::to_value(about).unwrap_or_default();
        let saved = Saved { ir: Arc::clone(&self.served), secrets: self.secrets.clone(), about };
        if keeper.keep(saved, self.clock.tick()) {
            last_good_text::remove(keeper.file().folder());
        }
    }

    /// Saves what could not be saved before.
    fn keep_again(&mut self) {
        if let Some(keeper) = &mut self.keeper
            && keeper.retry(self.clock.tick())
        {
            last_good_text::remove(keeper.file().folder());
        }
    }
}

enum Work {
    Read { forced: bool },
    Save,
}

impl ConfigSource for FileSource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            loop {
                match self.wait().await? {
                    Work::Save => self.keep_again(),
                    Work::Read { forced } => {
                        if let Some(update) = self.read(forced) {
                            return Some(update);
                        }
                    }
                }
            }
        })
    }

    fn ack(&mut self, ack: Ack) {
        let Some(mut pending) = self.pending.take() else { return };
        match ack {
            Ack::Applied { generation, diagnostics } => self.applied(&mut pending, generation, diagnostics),
            Ack::Refused(refusal) => self.refused(&pending, refusal),
        }
        drop(pending);
        cardinal_base::memory::release_free();
    }
}

/// The configuration of the files or, if it cannot be served, the last known good one.
fn first_configuration(site: &Site, preferences: &Preferences, keeper: Option<&Keeper>, strict: bool) -> Result<First> {
    let settings = &preferences.settings;
    let paths = site.paths(settings);
    if paths.is_empty() && settings.declarative_config_string.is_none() {
        tracing::warn!("no configuration: every request is answered with 404 (see --config)");
    }
    cardinal_base::log::progress(&format!("reading {}...", out::count(paths.len(), "file")));
    let read = || -> Result<_, Refusal> {
        let texts = site.texts(preferences)?;
        Ok((site.lowered(settings, &texts.sources, strict)?, texts))
    };
    let refusal = match read() {
        Ok((loaded, texts)) => {
            let about = About::of(&loaded, &texts);
            return Ok(First { loaded, texts, about, refused: None, is_new: true });
        }
        Err(refusal) => refusal,
    };
    let Some(keeper) = keeper.filter(|_| !strict) else { return Err(anyhow!(refusal)) };
    let mut first = match last_good(site, settings, keeper.file()) {
        Ok(Some(first)) => first,
        Ok(None) => return Err(anyhow!(refusal)),
        Err(worse) => {
            let worse = format!("the last known good configuration cannot be served either: {}", worse.summary());
            return Err(anyhow!(refusal).context(worse));
        }
    };
    log_refusal("the configuration is refused", &refusal);
    let streams = site.streams(settings);
    let fix = match streams.len() {
        0 => "fix the files (they are reloaded automatically)".to_owned(),
        n if n == paths.len() => format!("fix {} and restart the process", streams.join(", ")),
        _ => format!("fix the files (they are reloaded automatically, {} is not)", streams.join(", ")),
    };
    let count = out::count(first.about.files, "saved file");
    tracing::warn!("serving the last known good configuration, from {count}; {fix}");
    first.refused = Some(refusal.problems());
    Ok(first)
}

/// The last known good configuration. Why there is none is logged.
fn last_good(site: &Site, settings: &Settings, file: &LastGood) -> Result<Option<First>, Refusal> {
    let none = |error: &anyhow::Error| {
        tracing::warn!("there is no last known good configuration: {error:#}");
        Ok(None)
    };
    match file.load() {
        Ok(saved) => {
            let mut about: About = serde_json::from_value(saved.about).unwrap_or_default();
            about.left_out += saved.rejected.len();
            report_rejected(&saved.rejected);
            let configuration = cardinal_engine::Configuration::new(saved.ir, settings.node.clone());
            let configuration = configuration.with_secrets(saved.secrets);
            let loaded = LoweredConfig {
                configuration,
                diagnostics: Vec::new(),
                summary: about.summary.clone(),
                hidden: about.hidden.clone(),
                source_map: cardinal_kong::SourceMap::default(),
            };
            let texts = Texts { sources: Vec::new(), digest: Digest::default() };
            Ok(Some(First { loaded, texts, about, refused: None, is_new: false }))
        }
        Err(missing @ LoadError::Missing(_)) => match last_good_text::load(file.folder()) {
            Ok(None) => none(&missing.into()),
            Err(error) => none(&error),
            Ok(Some(sources)) => {
                let texts = Texts { sources, digest: Digest::default() };
                let loaded = site.lowered(settings, &texts.sources, false)?;
                let about = About::of(&loaded, &texts);
                Ok(Some(First { loaded, texts, about, refused: None, is_new: true }))
            }
        },
        // What an earlier version saved is older still, and is not served instead.
        Err(error) => none(&error.into()),
    }
}

/// Errors among diagnostics.
fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
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

fn report_rejected(rejected: &[Rejected]) {
    for Rejected { kind, id, reason } in rejected {
        tracing::error!("left out of the last known good configuration: record {id} of {}: {reason}", kind.as_str());
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
}
