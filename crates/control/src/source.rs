//! [`StoreSource`]: a store as the source of the configuration of a node.
//!
//! Everything is lowered once; afterwards each change of the store costs what it concerns. Changes that follow each other
//! closely become one update.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::metrics::{Histogram, MetricSource, MetricText};
use cardinal_base::{Clock, Tick};
use cardinal_ir::{Diagnostic, Id, Ir, NodeSettings, Secrets, Severity};
use cardinal_kong::declarative::WORKSPACE_FIELD;
use cardinal_kong::{Edit, Entity, Lowered, Registry, Settings, Snapshot};
use cardinal_store::{Change, Contents, Document, Key, PastDocument, Store, StoreError};
use cardinal_sync::stream::TargetHealth;
use cardinal_sync::{Ack, Backoff, ConfigSource, ConfigStatus, Next, Update};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::dao::{DEFAULT_WORKSPACE, health, members};
use crate::quarantine::{Quarantine, Quarantined};
use crate::unreadable::close_unreadable;

/// Time between two updates at least: changes that come in the meantime become one. The first change after a pause is sent at
/// once.
const COALESCING: Duration = Duration::from_millis(5);
/// Changes that are read at once, about.
const CHANGES_MAX: usize = 10_000;

/// A store as the source of the configuration of a node.
pub struct StoreSource {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    node: Arc<NodeSettings>,
    clock: Arc<dyn Clock>,
    revisions: watch::Receiver<u64>,
    lowered: Lowered,
    members: Members,
    /// The revision that `lowered` is at, or that was served before.
    revision: u64,
    /// What is served comes from before, and the store was not read yet.
    unread: bool,
    /// When the store was read last.
    read_at: Option<Tick>,
    served: Arc<Ir>,
    pending: Option<Arc<Ir>>,
    retry: Backoff,
    status: Arc<SourceStatus>,
    /// Shows the revision that is served.
    config: Option<Arc<ConfigStatus>>,
    /// Errors about documents that cannot be read.
    unreadable: Vec<Diagnostic>,
    /// What was left out of the last update, and is in the log.
    left_out: Vec<Diagnostic>,
    /// This node, and what takes what operators say about targets on other ones.
    health: Option<(String, mpsc::Sender<TargetHealth>)>,
}

/// What a node served before, for a start without the store.
#[derive(Clone, Debug)]
pub struct LastServed {
    /// The records.
    pub ir: Arc<Ir>,
    /// Their secrets.
    pub secrets: Secrets,
    /// The revision of the store that they were made of.
    pub revision: u64,
}

/// What a [`StoreSource`] reports.
#[derive(Debug)]
pub struct SourceStatus {
    state: std::sync::Mutex<SourceState>,
    /// Microseconds that lowering took, for each update.
    lowering_times: Histogram,
    /// Changes of the store that became one update.
    changes: Histogram,
    revisions: watch::Receiver<u64>,
}

/// The state of a [`StoreSource`].
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// The revision of the store that is served.
    pub revision: u64,
    /// Errors about entities that are not served, and warnings, of the last update.
    pub diagnostics: Vec<Diagnostic>,
    /// Those that were found while entities were lowered.
    lowering: Vec<Diagnostic>,
    quarantine: Quarantine,
    /// Why the store cannot be read at the moment.
    pub unavailable: Option<String>,
}

impl SourceStatus {
    fn new(revisions: watch::Receiver<u64>) -> Self {
        let (lowering_times, changes) = (Histogram::of_durations(), Histogram::of_counts());
        Self { state: std::sync::Mutex::default(), lowering_times, changes, revisions }
    }

    /// The state.
    pub fn get(&self) -> SourceState {
        self.lock().clone()
    }

    /// The revision of the store that is served.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// The entities that are not served, by kind and id.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        self.lock().quarantine.list()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SourceState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl MetricSource for SourceStatus {
    fn write(&self, text: &mut MetricText) {
        let (revision, kinds) = {
            let state = self.lock();
            (state.revision, state.quarantine.kinds())
        };
        text.one("store_revision_served", "gauge", "The revision of the database that is served.", revision);
        let lag = self.revisions.borrow().saturating_sub(revision);
        text.one("store_revision_lag", "gauge", "Revisions of the database that are not served yet.", lag);
        let name = "config_lowering_duration_seconds";
        text.head(name, "histogram", "Time to convert changed entities of the database into records, by update.");
        text.histogram(name, &[], &self.lowering_times);
        let name = "config_update_changes";
        text.head(name, "histogram", "Changes of the database that became one update of the configuration.");
        text.histogram(name, &[], &self.changes);
        let help = "Entities of the database that are valid and cannot be served, by kind.";
        text.head("quarantined_entities", "gauge", help);
        for (kind, count) in kinds {
            text.line("quarantined_entities", &[("kind", &*kind)], count);
        }
    }
}

impl std::fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSource").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// The groups of each consumer.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<Id, BTreeSet<Id>>);

impl Members {
    /// Adds or removes a membership; the consumer it concerns.
    fn change(&mut self, value: &Value, is_member: bool) -> Option<Id> {
        let id = |field: &str| value.get(field)?.get("id")?.as_str()?.parse::<Id>().ok();
        let (consumer, group) = (id("consumer")?, id("consumer_group")?);
        let groups = self.0.entry(consumer).or_default();
        if is_member {
            groups.insert(group);
        } else {
            groups.remove(&group);
        }
        if groups.is_empty() {
            self.0.remove(&consumer);
        }
        Some(consumer)
    }

    fn of(&self, consumer: &Id) -> Vec<Id> {
        self.0.get(consumer).into_iter().flatten().copied().collect()
    }
}

impl StoreSource {
    /// Reads everything. The update is the first one, and is to be acknowledged.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        settings: Arc<Settings>,
        node: Arc<NodeSettings>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Update), StoreError> {
        let mut source = Self::unread(store, registry, (settings, node), clock);
        source.read_all().await?;
        let (generation, secrets) = (Arc::new(source.lowered.ir().clone()), source.lowered.secrets().clone());
        let update = source.first(generation, secrets);
        Ok((source, update))
    }

    /// Begins with what was served before, because the store cannot be read yet. It is read when its revision is known,
    /// and again and again while that fails. The update is the first one, and is to be acknowledged.
    pub fn resume(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        settings: (Arc<Settings>, Arc<NodeSettings>),
        clock: Arc<dyn Clock>,
        last: LastServed,
    ) -> (Self, Update) {
        let source = Self::unread(store, registry, settings, clock);
        let mut source = Self { revision: last.revision, ..source };
        let update = source.first(last.ir, last.secrets);
        (source, update)
    }

    fn unread(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        (settings, node): (Arc<Settings>, Arc<NodeSettings>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (mut revisions, status) = (store.watch(), Arc::new(SourceStatus::new(store.watch())));
        revisions.mark_unchanged();
        let nothing = snapshot_of(&registry, []).0;
        let lowered = Lowered::new(nothing, Arc::clone(&registry), Arc::clone(&settings));
        let members = Members::default();
        Self {
            store,
            registry,
            settings,
            node,
            clock,
            revisions,
            lowered,
            members,
            revision: 0,
            unread: true,
            read_at: None,
            served: Arc::default(),
            pending: None,
            retry: Backoff::default(),
            status,
            config: None,
            unreadable: Vec::new(),
            left_out: Vec::new(),
            health: None,
        }
    }

    fn first(&mut self, generation: Arc<Ir>, secrets: Secrets) -> Update {
        self.pending = Some(Arc::clone(&generation));
        Update::first(generation, Arc::clone(&self.node)).with_secrets(secrets)
    }

    /// Reads and lowers everything; gives the time that lowering took.
    async fn read_all(&mut self) -> Result<u64, StoreError> {
        let mut contents = self.store.contents().await?;
        let revision = contents.revision;
        let start = self.clock.tick();
        let unreadable = close_unreadable(&self.registry, &mut contents)?;
        let (snapshot, members) = snapshot_of(&self.registry, contents.documents.into_iter().map(past));
        self.lowered = Lowered::new(snapshot, Arc::clone(&self.registry), Arc::clone(&self.settings));
        (self.members, self.unreadable) = (members, unreadable);
        (self.revision, self.unread) = (revision, false);
        Ok(self.clock.tick().0.saturating_sub(start.0))
    }

    /// The records that are served and their secrets, with the revision that they were made of; `None` while they come from
    /// before.
    pub fn last_served(&self) -> Option<LastServed> {
        let last = || LastServed {
            ir: Arc::clone(&self.served),
            secrets: self.lowered.secrets().clone(),
            revision: self.revision,
        };
        (!self.unread).then(last)
    }

    /// What operators say about targets on other nodes of the store than this one is sent there.
    #[must_use]
    pub fn telling_health(self, node: Id, to: mpsc::Sender<TargetHealth>) -> Self {
        Self { health: Some((node.to_string(), to)), ..self }
    }

    /// What the source reports.
    pub fn status(&self) -> &Arc<SourceStatus> {
        &self.status
    }

    /// Shows the revision that is served there, too.
    #[must_use]
    pub fn showing_revision(self, config: Arc<ConfigStatus>) -> Self {
        Self { config: Some(config), ..self }
    }

    /// The revision of the store that the last update has.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The settings of the node.
    pub fn node(&self) -> &Arc<NodeSettings> {
        &self.node
    }

    async fn next_update(&mut self) -> Option<Update> {
        loop {
            let wait = self.retry.wait_ms(self.clock.tick());
            match wait {
                Some(ms) => self.clock.sleep(Duration::from_millis(ms)).await,
                // A store that is not open yet has the revision 0, and tells when it is.
                None if self.unread => {
                    if *self.revisions.borrow_and_update() == 0 {
                        self.revisions.changed().await.ok()?;
                    }
                }
                None if *self.revisions.borrow_and_update() > self.revision => {
                    if let Some(read_at) = self.read_at {
                        self.clock.sleep_until(read_at.plus(COALESCING)).await;
                    }
                }
                None => {
                    self.revisions.changed().await.ok()?;
                    continue;
                }
            }
            let caught_up = self.catch_up().await;
            self.read_at = Some(self.clock.tick());
            match caught_up {
                Ok(Some(update)) => {
                    self.retry.reset();
                    self.status.lock().unavailable = None;
                    return Some(update);
                }
                Ok(None) => {
                    self.retry.reset();
                    self.status.lock().unavailable = None;
                }
                Err(error) => {
                    let why = Some(error.to_string());
                    let before = std::mem::replace(&mut self.status.lock().unavailable, why.clone());
                    if before != why {
                        tracing::error!(%error, "the store cannot be read; the configuration stays as it is");
                    }
                    self.retry.failed(self.clock.tick());
                }
            }
        }
    }

    /// Lowers what changed since the last time; `None` if nothing that is served did.
    async fn catch_up(&mut self) -> Result<Option<Update>, StoreError> {
        let (mut count, mut lowering) = (0, 0);
        let was_unread = self.unread;
        if was_unread {
            (count, lowering) = (1, self.read_all().await?);
        }
        loop {
            let changes = match self.store.changes(self.revision, CHANGES_MAX).await {
                Ok(changes) => changes,
                // The log does not reach back that far, or what changed cannot be read.
                Err(StoreError::TooLarge(_) | StoreError::Corrupt(_)) => {
                    let before = self.revision;
                    lowering += self.read_all().await?;
                    count += self.revision.saturating_sub(before);
                    break;
                }
                Err(error) => return Err(error),
            };
            let Some(last) = changes.last().map(|change| change.revision) else { break };
            count += changes.len() as u64;
            let start = self.clock.tick();
            let edits = self.edits(changes);
            self.lowered.edit(edits);
            self.revision = last;
            lowering += self.clock.tick().0.saturating_sub(start.0);
        }
        if count == 0 {
            return Ok(None);
        }
        self.status.lowering_times.observe(lowering);
        self.status.changes.observe(count);
        let update = Update::between(&self.served, self.lowered.ir()).with_secrets(self.lowered.secrets().clone());
        // An entity that cannot be served changes no record, and is to be reported nevertheless.
        let is_same = update.delta().is_empty() && self.diagnostics().eq(self.status.lock().lowering.iter());
        if is_same && !was_unread {
            self.serves_revision();
            return Ok(None);
        }
        self.pending = Some(Arc::clone(update.generation()));
        Ok(Some(update))
    }

    fn tell_health(&self, document: Option<&Value>) {
        let Some((node, to)) = &self.health else { return };
        if let Some(said) = document.and_then(|value| health::of_document(value, node)) {
            // More than fits is of no use.
            to.try_send(said).ok();
        }
    }

    /// Changes of documents as edits of entities.
    fn edits(&mut self, changes: Vec<Change>) -> Vec<Edit> {
        let mut edits = Vec::with_capacity(changes.len());
        let mut moved = BTreeSet::new();
        for change in changes {
            if &*change.key.kind == members::KIND {
                let (value, is_member) = match (&change.new, &change.old) {
                    (Some(new), _) => (new, true),
                    (None, Some(old)) => (old, false),
                    (None, None) => continue,
                };
                moved.extend(self.members.change(value, is_member));
            } else if &*change.key.kind == health::KIND {
                self.tell_health(change.new.as_ref());
            } else if let (Some(kind), Ok(id)) = (self.registry.kind(&change.key.kind), change.key.id.parse()) {
                edits.push(match change.new {
                    Some(Value::Object(fields)) => {
                        Edit::Put(kind.name, entity(&self.registry, (kind.name, &change.space), id, fields))
                    }
                    _ => Edit::Remove(kind.name, id),
                });
            }
        }
        edits.extend(moved.into_iter().map(|consumer| Edit::Groups(consumer, self.members.of(&consumer))));
        edits
    }

    /// What is wrong with the entities.
    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.unreadable.iter().chain(self.lowered.diagnostics())
    }

    fn serves_revision(&self) {
        self.status.lock().revision = self.revision;
        if let Some(config) = &self.config {
            config.set_revision(self.revision);
        }
    }

    fn report(&self) {
        self.serves_revision();
        let mut state = self.status.lock();
        state.lowering = self.diagnostics().cloned().collect();
        state.diagnostics = state.lowering.clone();
    }
}

impl ConfigSource for StoreSource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(self.next_update())
    }

    fn ack(&mut self, ack: Ack) {
        match &ack {
            Ack::Applied { generation, diagnostics } => {
                if let Some(pending) = self.pending.take() {
                    self.served = pending;
                }
                tracing::debug!(revision = self.revision, generation, "configuration applied");
                self.report();
                self.status.lock().diagnostics.extend(diagnostics.iter().cloned());
            }
            Ack::Refused(refusal) => {
                self.pending = None;
                tracing::error!(
                    revision = self.revision,
                    "the configuration is refused and stays as it was: {refusal}"
                );
            }
        }
        let found = self.status.get();
        let found = found.lowering.iter().chain(ack.errors()).filter(|found| found.severity == Severity::Error);
        let found: Vec<Diagnostic> = found.cloned().collect();
        if ack.is_applied() {
            self.status.lock().quarantine.update(&found, self.clock.unix(), self.revision);
        }
        // A change of something else does not tell the same again.
        for error in found.iter().filter(|error| !self.left_out.contains(error)) {
            tracing::error!("left out: {error}");
        }
        self.left_out = found;
    }
}

fn past(document: Document) -> (Key, PastDocument) {
    let Document { key, space, value, .. } = document;
    (key, PastDocument { space, value })
}

/// What a node would serve of these documents, with errors about entities that it would not serve.
pub fn lower_documents(
    registry: &Registry,
    settings: &Settings,
    documents: Vec<Document>,
) -> (Ir, Secrets, Vec<Diagnostic>) {
    cardinal_kong::lower_owned(snapshot_of(registry, documents.into_iter().map(past)).0, registry, settings)
}

/// The same for all that is in a store, with errors about documents that cannot be read.
///
/// # Errors
/// It is not known what one of them restricts, so a node would serve none of it.
pub fn lower_contents(
    registry: &Registry,
    settings: &Settings,
    mut contents: Contents,
) -> Result<(Ir, Secrets, Vec<Diagnostic>), StoreError> {
    let mut found = close_unreadable(registry, &mut contents)?;
    let (ir, secrets, more) = lower_documents(registry, settings, contents.documents);
    found.extend(more);
    Ok((ir, secrets, found))
}

/// Documents as a configuration.
pub(crate) fn snapshot_of(
    registry: &Registry,
    documents: impl IntoIterator<Item = (Key, PastDocument)>,
) -> (Snapshot, Members) {
    let mut members = Members::default();
    let mut entities = Vec::new();
    for (key, PastDocument { space, value }) in documents {
        if &*key.kind == members::KIND {
            members.change(&value, true);
        } else if let (Some(kind), Ok(id), Value::Object(fields)) = (registry.kind(&key.kind), key.id.parse(), value) {
            entities.push((kind.name, entity(registry, (kind.name, &space), id, fields)));
        }
    }
    let groups = members.0.iter().map(|(consumer, groups)| (*consumer, groups.iter().copied().collect())).collect();
    (Snapshot::of_entities(registry, entities, groups), members)
}

/// The entity of a document. It says which workspace it is in, unless that is `default`.
fn entity(registry: &Registry, (kind, space): (&str, &str), id: Id, mut value: Map<String, Value>) -> Entity {
    let label = registry.kind(kind).and_then(|kind| kind.label(&value));
    let plugin = || value.get("name").and_then(Value::as_str).filter(|_| kind == "plugins");
    let name = label.or_else(plugin).map(Into::into);
    if !space.is_empty() && space != DEFAULT_WORKSPACE {
        value.insert(WORKSPACE_FIELD.to_owned(), space.into());
    }
    Entity { id, value, name, location: None }
}

#[cfg(test)]
mod tests {
    use cardinal_base::ManualClock;
    use cardinal_store::{Author, Batch, Expect, MemoryStore, NewDocument, Write};
    use serde_json::json;

    use super::*;

    async fn put(store: &MemoryStore, number: u128) {
        let id = Id::from_u128(number).to_string();
        let (key, value) = (Key::new("consumers", &*id), json!({"id": id, "username": id}));
        let (uniques, references, tags, secrets) = (vec![], vec![], vec![], vec![]);
        let document = NewDocument { key, space: "".into(), value, uniques, references, tags, secrets };
        let writes = vec![Write::Put(Box::new(document), Expect::Any)];
        store.commit(Batch { author: Author::default(), writes, revision: None }).await.unwrap();
    }

    /// Whether an update is there while the clock stands still; it is acknowledged.
    async fn has_update(source: &mut StoreSource) -> bool {
        let update = tokio::select! {
            biased;
            update = source.next() => update,
            () = tokio::task::yield_now() => None,
        };
        source.ack(Ack::Applied { generation: 1, diagnostics: Vec::new() });
        update.is_some()
    }

    #[tokio::test]
    async fn the_first_change_after_a_pause_is_sent_at_once_and_further_ones_together() {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let registry = Arc::new(Registry::new(&[]));
        let (settings, node) = (Arc::new(Settings::default()), Arc::default());
        let started = StoreSource::start(store.clone(), registry, settings, node, clock.clone()).await;
        let (mut source, _first) = started.unwrap();
        source.ack(Ack::Applied { generation: 1, diagnostics: Vec::new() });
        put(&store, 1).await;
        assert!(has_update(&mut source).await, "there was no change before");
        put(&store, 2).await;
        put(&store, 3).await;
        assert!(!has_update(&mut source).await, "the last update was just now");
        clock.advance(COALESCING);
        assert!(has_update(&mut source).await);
        assert_eq!((source.revision(), has_update(&mut source).await), (3, false), "both came together");
        clock.advance(COALESCING);
        put(&store, 4).await;
        assert!(has_update(&mut source).await, "after a pause");
    }
}
