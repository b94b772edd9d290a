//! [`Housekeeper`]: what a store needs from time to time: entities whose life is over are deleted, and the change log is
//! shortened.
//!
//! Of all control planes of a database one does it, the leader ([`Store::try_lead`]). It reads all entities with a limited
//! life once and follows the changes, so that a round costs what has expired.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::Clock;
use cardinal_kong::Registry;
use cardinal_store::{Author, Batch, CommitError, Expect, Key, Lead, Log, Query, Store, StoreError, Violation, Write};
use serde_json::Value;

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(30);
/// Entities that are deleted in one batch, and batches of a round.
const BATCH_MAX: usize = 500;
const BATCHES_MAX: usize = 20;
/// Changes that are read at once, about.
const CHANGES_MAX: usize = 10_000;
const DAY_MS: i64 = 86_400_000;

/// A store with its change log.
pub trait Logged: Store + Log {}

impl<S: Store + Log> Logged for S {}

/// How much of the change log is kept. The newest revision always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Days that a change is kept; 0 is for ever.
    pub days: u32,
    /// Revisions that are kept at most; 0 is without a limit.
    pub revisions_max: u64,
}

/// Looks after a store.
pub struct Housekeeper {
    store: Arc<dyn Logged>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    lead: Option<Box<dyn Lead>>,
    lives: Option<Lives>,
}

/// Entities whose life is limited.
#[derive(Debug, Default)]
struct Lives {
    /// The revision of the store that this is of.
    revision: u64,
    /// When they end, in milliseconds since 1970.
    by_end: BTreeSet<(u64, Key)>,
    /// When an entity ends, and the revision of its last write.
    of: HashMap<Key, (u64, u64)>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Whether another control plane leads.
    pub is_follower: bool,
    /// Number of entities that were deleted because their life was over, without what went with them.
    pub expired: usize,
}

impl std::fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeper").field("retention", &self.retention).finish_non_exhaustive()
    }
}

impl Housekeeper {
    /// For a store of entities of these kinds.
    pub fn new(store: Arc<dyn Logged>, registry: Arc<Registry>, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { store, registry, clock, retention, lead: None, lives: None }
    }

    /// Works for as long as the future is polled.
    pub async fn run(mut self) {
        let mut last_error = None;
        loop {
            match self.round().await {
                Ok(Round { expired, .. }) => {
                    if expired > 0 {
                        tracing::info!(expired, "deleted entities whose life was over");
                    }
                    last_error = None;
                }
                Err(error) => {
                    let text = error.to_string();
                    if last_error.as_ref() != Some(&text) {
                        tracing::warn!("the store cannot be tidied up: {text}; it is tried again");
                    }
                    last_error = Some(text);
                    (self.lead, self.lives) = (None, None);
                }
            }
            self.clock.sleep(PERIOD).await;
        }
    }

    /// Deletes what has expired and shortens the log, if this process leads.
    ///
    /// # Errors
    /// The store failed.
    pub async fn round(&mut self) -> Result<Round, StoreError> {
        let leads = match &mut self.lead {
            Some(lead) => lead.is_held().await,
            None => false,
        };
        if !leads {
            self.lead = self.store.try_lead().await?;
            if self.lead.is_none() {
                return Ok(Round { is_follower: true, expired: 0 });
            }
        }
        let expired = self.expire().await?;
        self.shorten().await?;
        Ok(Round { is_follower: false, expired })
    }

    async fn shorten(&self) -> Result<(), StoreError> {
        let Retention { days, revisions_max } = self.retention;
        if days > 0 {
            let now = i64::try_from(self.clock.unix().0).unwrap_or(i64::MAX);
            self.store.prune_before(now.saturating_sub(i64::from(days) * DAY_MS)).await?;
        }
        if revisions_max > 0 {
            let head = self.store.head().await?;
            let up_to = head.revision.saturating_sub(revisions_max);
            if up_to > head.oldest {
                self.store.prune(up_to).await?;
            }
        }
        Ok(())
    }

    async fn expire(&mut self) -> Result<usize, StoreError> {
        let mut lives = match self.lives.take() {
            Some(lives) => lives,
            None => self.all_lives().await?,
        };
        self.catch_up(&mut lives).await?;
        let now = self.clock.unix().0;
        let mut count = 0;
        for _ in 0..BATCHES_MAX {
            let over: Vec<Key> = lives
                .by_end
                .iter()
                .take_while(|(end, _)| *end <= now)
                .take(BATCH_MAX)
                .map(|(_, key)| key.clone())
                .collect();
            if over.is_empty() {
                break;
            }
            count += self.delete(&mut lives, over).await?;
        }
        self.lives = Some(lives);
        Ok(count)
    }

    /// Deletes entities, unless they were written since; gives their number.
    async fn delete(&self, lives: &mut Lives, mut over: Vec<Key>) -> Result<usize, StoreError> {
        let author = Author { via: "expiry".into(), ..Author::default() };
        while !over.is_empty() {
            let writes = over.iter().filter_map(|key| {
                let (_, revision) = lives.of.get(key)?;
                Some(Write::Delete(key.clone(), Expect::Revision(*revision)))
            });
            let batch = Batch { author: author.clone(), writes: writes.collect(), revision: None };
            match self.store.commit(batch).await {
                Ok(_) => {
                    over.iter().for_each(|key| lives.forget(key));
                    return Ok(over.len());
                }
                Err(CommitError::Violation { at, violation }) => {
                    let key = over.remove(at.min(over.len().saturating_sub(1)));
                    // The change log has what was written since.
                    lives.forget(&key);
                    if !matches!(violation, Violation::Expectation { .. }) {
                        tracing::warn!("{key} has expired and cannot be deleted: {violation}");
                    }
                }
                Err(CommitError::Stale { .. }) => return Ok(0),
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
        Ok(0)
    }

    /// All entities with a limited life.
    async fn all_lives(&self) -> Result<Lives, StoreError> {
        // Changes that are made meanwhile are read again afterwards.
        let mut lives = Lives { revision: self.store.head().await?.revision, ..Lives::default() };
        for kind in self.registry.kinds().filter(|kind| kind.schema.ttl) {
            let mut query = Query { limit: 1_000, ..Query::all(kind.name) };
            loop {
                let page = self.store.list(query.clone()).await?;
                for document in page.documents {
                    lives.note(document.key, Some(&document.value), document.revision);
                }
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(lives)
    }

    async fn catch_up(&self, lives: &mut Lives) -> Result<(), StoreError> {
        loop {
            let changes = match self.store.changes(lives.revision, CHANGES_MAX).await {
                Err(StoreError::TooLarge(_)) => {
                    *lives = self.all_lives().await?;
                    continue;
                }
                other => other?,
            };
            let Some(last) = changes.last().map(|change| change.revision) else { return Ok(()) };
            for change in changes {
                if self.registry.kind(&change.key.kind).is_some_and(|kind| kind.schema.ttl) {
                    lives.note(change.key, change.new.as_ref(), change.revision);
                }
            }
            lives.revision = last;
        }
    }
}

impl Lives {
    fn note(&mut self, key: Key, value: Option<&Value>, revision: u64) {
        self.forget(&key);
        if let Some(end) = value.and_then(end_of) {
            self.by_end.insert((end, key.clone()));
            self.of.insert(key, (end, revision));
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some((end, _)) = self.of.remove(key) {
            self.by_end.remove(&(end, key.clone()));
        }
    }
}

/// When the life of an entity ends, in milliseconds since 1970. `ttl` is in seconds after its creation.
fn end_of(value: &Value) -> Option<u64> {
    let number = |name: &str| value.get(name).and_then(Value::as_f64);
    let end = number("created_at")? + number("ttl").filter(|ttl| *ttl > 0.0)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a conversion of floats saturates")]
    Some((end * 1_000.0) as u64)
}

#[cfg(test)]
mod tests;
