//! The task that commits: one transaction at a time, each for all batches that wait (group commit).

use std::sync::Arc;

use cardinal_base::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::codec::Codec;
use super::connection::{Connection, Database, transaction};
use super::keys::SharedKey;
use super::transaction::Transaction;
use super::{index, rows};
use crate::{Batch, CommitError, Committed, StoreError};

/// Batches of a transaction at most.
const GROUP_MAX: usize = 64;
/// Writes of the batches of a group at most. A larger batch has a transaction of its own.
const GROUP_WRITES_MAX: usize = 1_000;

/// A batch that waits for its commit.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

type Outcome = Result<Committed, CommitError>;

pub(crate) struct Writer {
    pub(crate) database: Arc<dyn Database>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) key: SharedKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) revision: watch::Sender<u64>,
}

impl Writer {
    /// Commits until the store is dropped.
    pub(crate) async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(job) => job,
                None => match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            let mut writes = first.batch.writes.len();
            let mut group = vec![first];
            while group.len() < GROUP_MAX && next.is_none() {
                let Ok(job) = jobs.try_recv() else { break };
                writes = writes.saturating_add(job.batch.writes.len());
                if writes > GROUP_WRITES_MAX {
                    next = Some(job);
                } else {
                    group.push(job);
                }
            }
            self.commit(group).await;
        }
    }

    async fn commit(&self, group: Vec<Job>) {
        // Nobody waits for these any more, and nothing was begun.
        let mut group: Vec<Job> = group.into_iter().filter(|job| !job.reply.is_closed()).collect();
        if group.len() > 1 {
            let batches = group.iter().map(|job| job.batch.clone()).collect();
            match self.transaction(batches).await {
                Ok(outcomes) => {
                    for (job, outcome) in group.drain(..).zip(outcomes) {
                        reply(job.reply, outcome);
                    }
                }
                // A connection that was lost at the end may have committed: then the batches must not be tried again.
                Err(StoreError::Unavailable(text)) => {
                    for job in group.drain(..) {
                        reply(job.reply, Err(StoreError::Unavailable(text.clone()).into()));
                    }
                }
                // One batch may be at fault for all of them.
                Err(_) => {}
            }
        }
        for Job { batch, reply: to } in group {
            let outcome = match self.transaction(vec![batch]).await {
                Ok(mut outcomes) => outcomes.pop().unwrap_or_else(|| Err(unavailable("no result").into())),
                Err(error) => Err(error.into()),
            };
            reply(to, outcome);
        }
    }

    /// Applies batches in one transaction. An error is that of the transaction, of which nothing is applied.
    async fn transaction(&self, batches: Vec<Batch>) -> Result<Vec<Outcome>, StoreError> {
        let database = &*self.database;
        let result = transaction!(database, |connection| self.statements(connection, batches));
        let (revision, outcomes) = result?;
        advance(&self.revision, revision);
        Ok(outcomes)
    }

    async fn statements(
        &self,
        connection: &mut dyn Connection,
        batches: Vec<Batch>,
    ) -> Result<(u64, Vec<Outcome>), StoreError> {
        index::refresh(connection, &self.codec, self.key.lock().await.as_deref()).await?;
        let mut head = rows::head(connection).await?;
        let before = head.revision;
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            let at_ms = i64::try_from(self.clock.unix().0).unwrap_or(i64::MAX);
            let mut transaction = Transaction::new(connection, (&self.codec, &self.key), head);
            match transaction.apply(batch, at_ms).await {
                Ok(committed) => {
                    head = transaction.head;
                    outcomes.push(Ok(committed));
                }
                Err(CommitError::Store(error)) => return Err(error),
                // It only read, so nothing is to be undone.
                Err(refused) => outcomes.push(Err(refused)),
            }
        }
        if let Some(notify) = self.database.notify().filter(|_| head.revision != before) {
            connection.query(notify.to_owned(), Vec::new()).await?;
        }
        Ok((head.revision, outcomes))
    }
}

/// The caller may have stopped waiting.
fn reply(to: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _sent = to.send(outcome);
}

pub(crate) fn unavailable(text: &str) -> StoreError {
    StoreError::Unavailable(text.to_owned())
}

/// Sets the newest revision that is known. It never goes back: notifications may come late.
pub(crate) fn advance(revision: &watch::Sender<u64>, new: u64) {
    revision.send_if_modified(|revision| {
        let is_newer = new > *revision;
        *revision = new.max(*revision);
        is_newer
    });
}
