//! [`FileSource`]: files and settings as the source of the configuration.
//!
//! They are read at the start, when they change, and when that is requested. What cannot be read is read again with a
//! backoff. What is served is saved, and served again by a process whose files cannot be.

mod draft;
mod first;
mod posted;
mod written;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_base::{Clock as _, SystemClock, UnixMillis};
use cardinal_ir::{Code, Diagnostic, Diagnostics, Ir, Listener, NodeSettings, Secrets, Severity};
use cardinal_kong::Settings;
use cardinal_kong::declarative::Hidden;
use cardinal_kong::settings::Note;
use cardinal_sync::{
    Ack, Backoff, ConfigOutcome, ConfigProblem, ConfigSource, ConfigStatus, Incomplete, Keeper, Next, ProblemList,
    Refusal as EngineRefusal, Saved, Update,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;

use crate::config::{Digest, LoweredConfig, Preferences, Reading, Refusal, Site, Texts};
use crate::out;

use super::control::{Api, Post, WriteRequest};
use super::incomplete::{incomplete_text, left_out, report};
use super::last_good_text;
use super::node::{log_refusal, warn_of_settings};
use super::quiet::Quiet;
use super::watch::Watch;
use first::{First, first_configuration};

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
    /// The Admin API, if there is one.
    api: Option<Api>,
    /// What is served was posted.
    posted: bool,
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
    /// A change that a client made while something else changed the files. It is decided again when they are loaded.
    waiting: Option<WriteRequest>,
    /// What is served is not what the files have: they are to be loaded at once.
    reload_now: bool,
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
    /// The client that posted it.
    post: Option<Post>,
    /// The change of a client that it is made of.
    write: Option<written::Write>,
    /// The same once it is in the files.
    written: Option<WriteRequest>,
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
    entities_left_out: ProblemList,
    /// References to secrets that cannot be resolved.
    missing_secrets: ProblemList,
    /// Seconds since the epoch when it was saved.
    saved_at: Option<u64>,
    /// Values that were filled in, for messages of the engine.
    hidden: Hidden,
    /// A client posted it.
    posted: bool,
}

impl About {
    fn of(loaded: &LoweredConfig, texts: &Texts) -> Self {
        let is_missing = |found: &&Diagnostic| found.severity == Severity::Warning && found.code == Code::Secret;
        Self {
            summary: loaded.summary.clone(),
            files: texts.sources.len(),
            entities_left_out: left_out(&loaded.diagnostics),
            missing_secrets: loaded.diagnostics.iter().filter(is_missing).map(ConfigProblem::from).collect(),
            saved_at: None,
            hidden: loaded.hidden.clone(),
            posted: false,
        }
    }
}

impl FileSource {
    /// Reads the configuration of a process that starts: that of the files or, if it cannot be read, the last known good
    /// one. The update is to be acknowledged.
    pub(super) fn start(
        site: Site,
        preferences: Preferences,
        keeper: Option<Keeper>,
        strict: bool,
        (watch, requests, api): (Watch, Receiver<Request>, Option<Api>),
    ) -> Result<(Self, Update)> {
        let reading = Reading { strict, keep_entities: api.is_some(), is_posted: false };
        let mut first = first_configuration(&site, &preferences, keeper.as_ref(), reading)?;
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
            api,
            posted: false,
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
                post: None,
                write: None,
                written: None,
            }),
            waiting: None,
            reload_now: false,
        };
        Ok((source, update))
    }

    /// What the source reports to.
    pub(super) fn status(&self) -> &Arc<ConfigStatus> {
        &self.status
    }

    /// Listeners of the settings, and of the first configuration.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let of_records = self.pending.iter().flat_map(|pending| pending.generation.listeners.iter());
        let of_records = of_records.map(|(_, listener)| Listener::clone(listener));
        self.node.listeners.iter().cloned().chain(of_records).collect()
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
            if std::mem::take(&mut self.reload_now) {
                return Some(Work::Read { forced: true });
            }
            let now = self.clock.tick();
            let keeper_ms = self.keeper.as_ref().and_then(|keeper| keeper.wait_ms(now));
            let wait = self.quiet.wait_ms(now).into_iter().chain(self.retry.wait_ms(now)).chain(keeper_ms).min();
            let requests = &mut self.requests;
            let request = async {
                match wait {
                    None => Ok(requests.recv().await),
                    Some(ms) => tokio::time::timeout(Duration::from_millis(ms), requests.recv()).await,
                }
            };
            let (posts, writes) = self.api.as_mut().map(|api| (&mut api.posts, api.writes.as_mut())).unzip();
            let request = tokio::select! {
                biased;
                request = request => request,
                post = posted::next(posts) => return Some(Work::Load(post)),
                write = written::next(writes.flatten()) => return Some(Work::Write(Box::new(write))),
            };
            let now = self.clock.tick();
            match request {
                Ok(None) => return None,
                Ok(Some(Request::Reload)) => {
                    self.quiet = Quiet::default();
                    self.retry.reset();
                    // The result is logged and reported, also if it is the same as before.
                    self.unreadable = None;
                    tracing::info!("reload requested (SIGHUP)");
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
            Ok(None) => {
                self.succeeded();
                self.tell_waiting(None);
            }
            Err(refusal) => {
                self.failed(&refusal, forced);
                self.tell_waiting(Some(&refusal));
            }
        }
        None
    }

    fn try_read(&mut self, forced: bool) -> Result<Option<Update>, Refusal> {
        let preferences = self.site.settings()?;
        // Links may lead elsewhere now.
        self.watch.follow(&self.site, &preferences.settings);
        let texts = self.site.texts(&preferences)?;
        if self.posted && texts.sources.is_empty() {
            tracing::info!("there are no files: the configuration that was posted stays");
            return Ok(None);
        }
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
        let reading = Reading { strict: self.strict, keep_entities: self.api.is_some(), is_posted: false };
        let loaded = self.site.lowered(&preferences.settings, &texts.sources, reading)?;
        Ok(Some(self.prepare(loaded, texts, forced)))
    }

    /// The update to what was read, which is to be acknowledged.
    fn prepare(&mut self, mut loaded: LoweredConfig, texts: Texts, forced: bool) -> Update {
        let configuration = std::mem::take(&mut loaded.configuration);
        let secrets = configuration.secrets;
        let mut update = Update::between(&self.served, &configuration.ir).with_secrets(secrets.clone());
        let node = configuration.node;
        if node != self.node {
            update = update.with_node(Arc::clone(&node));
        }
        let (generation, about) = (Arc::clone(update.generation()), About::of(&loaded, &texts));
        let (refused, is_new) = (None, true);
        let (post, write, written) = (None, None, None);
        self.pending = Some(Pending {
            generation,
            secrets,
            node,
            loaded,
            texts,
            about,
            refused,
            is_new,
            forced,
            post,
            write,
            written,
        });
        update
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

    fn refused(&mut self, pending: &mut Pending, refusal: EngineRefusal) {
        let refusal = posted::of_engine(pending, refusal);
        if let Some(post) = pending.post.take() {
            return self.refuse_post(post, &refusal);
        }
        if let Some(write) = pending.write.take() {
            return write.refuse(&refusal);
        }
        if refusal.is_transient() {
            // The same text is to be tried again.
            self.tried = self.texts;
        }
        self.failed(&refusal, pending.forced);
        self.tell_waiting(Some(&refusal));
    }

    /// Notes what is served from now on.
    fn applied(&mut self, pending: &mut Pending, generation: u64, diagnostics: Vec<Diagnostic>) {
        let is_change = pending.write.is_some();
        let changes = self.end_write(pending, generation);
        if is_change && changes.is_none() {
            return;
        }
        self.succeeded();
        self.generation = generation;
        self.texts = pending.texts.digest;
        (self.served, self.node) = (Arc::clone(&pending.generation), Arc::clone(&pending.node));
        self.secrets = std::mem::take(&mut pending.secrets);
        let diagnostics = pending.loaded.placed(diagnostics);
        let entities = self.publish(pending, changes.as_deref());
        let About { summary, files, entities_left_out, missing_secrets, saved_at, .. } = &pending.about;
        let mut incomplete =
            Incomplete { left_out: entities_left_out.clone(), missing_secrets: missing_secrets.clone() };
        incomplete.left_out.extend(left_out(&diagnostics));
        let missing = incomplete_text(&incomplete);
        let (left_out, missing_secrets) = (incomplete.left_out.count(), incomplete.missing_secrets.count());
        self.status.report(match pending.refused.take() {
            None => ConfigOutcome::Applied(incomplete),
            Some(problems) => {
                let saved_at = saved_at.map(|seconds| UnixMillis(seconds.saturating_mul(1_000)));
                ConfigOutcome::LastGood { problems, incomplete, saved_at }
            }
        });
        report(&pending.loaded.diagnostics);
        report(&diagnostics);
        let is_posted = pending.about.posted;
        let by_api = if is_change { ", changed by the Admin API" } else { "" };
        let from = if is_posted { "POST /config".to_owned() } else { out::count(*files, "file") + by_api };
        tracing::info!(
            generation,
            left_out,
            missing_secrets,
            "generation {generation}: {summary}, from {from}{missing}"
        );
        if self.posted && !is_posted {
            tracing::warn!("the configuration of the files replaces the one that was posted");
        }
        self.posted = is_posted;
        if pending.is_new {
            self.keep(&pending.about);
        }
        if let Some(post) = pending.post.take() {
            post.answer(Ok(entities.entities_json()));
        }
        self.tell_writers(pending);
    }

    /// Saves what is served.
    fn keep(&mut self, about: &About) {
        let Some(keeper) = &mut self.keeper else { return };
        let about = About { saved_at: Some(self.clock.unix().seconds()), ..about.clone() };
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
    Load(Post),
    Write(Box<WriteRequest>),
    Save,
}

impl ConfigSource for FileSource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            loop {
                match self.wait().await? {
                    Work::Save => self.keep_again(),
                    Work::Load(post) => {
                        if let Some(update) = self.read_post(post) {
                            return Some(update);
                        }
                    }
                    Work::Write(request) => {
                        if let Some(update) = self.begin_write(*request) {
                            return Some(update);
                        }
                    }
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
            Ack::Refused(refusal) => self.refused(&mut pending, refusal),
        }
        drop(pending);
        cardinal_base::memory::release_free();
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
        ("admin_listen", old.admin.listeners != new.admin.listeners),
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
