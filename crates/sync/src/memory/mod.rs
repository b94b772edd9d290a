//! [`MemorySource`]: changes made within the process.

use std::sync::Arc;

use cardinal_ir::{Ir, IrDelta, NodeSettings, Secrets};
use tokio::sync::{mpsc, oneshot};

use crate::{Ack, ConfigOutcome, ConfigSource, ConfigStatus, Next, Update};

/// Maximum number of queued changes. Further callers wait.
const WAITING_MAX: usize = 64;

/// Minimum number of stored secrets before unused ones are removed.
const UNUSED_SECRETS_MAX: usize = 1_024;

/// A source for changes made within the process, through its [`MemoryHandle`]. Ends when all handles are dropped.
pub struct MemorySource {
    changes: mpsc::Receiver<Change>,
    /// The update to be acknowledged.
    pending: Option<Pending>,
    /// The last acknowledged generation.
    served: Arc<Ir>,
    /// The secrets of the last acknowledged generation, and possibly unused ones.
    secrets: Secrets,
    /// Number of secrets above which unused ones are removed.
    secrets_max: usize,
    status: Arc<ConfigStatus>,
}

/// Sends changes to a [`MemorySource`]. Clones send to the same source; changes are applied in order.
#[derive(Clone, Debug)]
pub struct MemoryHandle(mpsc::Sender<Change>);

/// The source is no longer read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of the configuration has ended")]
pub struct Ended;

#[derive(Debug)]
struct Change {
    records: Records,
    /// Secrets to which the new records refer.
    secrets: Secrets,
    node: Option<Arc<NodeSettings>>,
    reply: oneshot::Sender<Ack>,
}

#[derive(Debug)]
enum Records {
    Changed(Box<IrDelta>),
    Replaced(Arc<Ir>),
}

struct Pending {
    generation: Arc<Ir>,
    secrets: Secrets,
    reply: oneshot::Sender<Ack>,
}

impl MemorySource {
    /// A source without records, which reports results to `status`.
    pub fn new(status: Arc<ConfigStatus>) -> (MemoryHandle, Self) {
        let (handle, changes) = mpsc::channel(WAITING_MAX);
        let (served, secrets, secrets_max) = (Arc::default(), Secrets::default(), UNUSED_SECRETS_MAX);
        (MemoryHandle(handle), Self { changes, pending: None, served, secrets, secrets_max, status })
    }

    /// The last acknowledged generation.
    pub fn served(&self) -> &Arc<Ir> {
        &self.served
    }

    /// The secrets of the next generation. Finding unused secrets takes time in proportion to the generation, so it is
    /// only done when their number has doubled.
    fn secrets_with(&mut self, added: &Secrets, next: &Ir) -> Secrets {
        let mut secrets = self.secrets.clone();
        secrets.merge(added);
        if secrets.len() > self.secrets_max {
            secrets.retain_used(next);
            self.secrets_max = 2 * secrets.len() + UNUSED_SECRETS_MAX;
        }
        secrets
    }
}

impl ConfigSource for MemorySource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            let Change { records, secrets: added, node, reply } = self.changes.recv().await?;
            let mut update = match records {
                Records::Changed(delta) => Update::of_delta(&self.served, *delta),
                Records::Replaced(ir) => Update::between(&self.served, &ir),
            };
            let secrets = self.secrets_with(&added, update.generation());
            update = update.with_secrets(secrets.clone());
            if let Some(node) = node {
                update = update.with_node(node);
            }
            // An unacknowledged update is not active; its sender receives [`Ended`].
            self.pending = Some(Pending { generation: Arc::clone(update.generation()), secrets, reply });
            Some(update)
        })
    }

    fn ack(&mut self, ack: Ack) {
        let Some(Pending { generation, secrets, reply }) = self.pending.take() else { return };
        if ack.is_applied() {
            (self.served, self.secrets) = (generation, secrets);
        }
        self.status.report(ConfigOutcome::of(&ack));
        // The sender may have stopped waiting.
        reply.send(ack).ok();
    }
}

impl MemoryHandle {
    /// Applies these changes, and waits for the result.
    ///
    /// # Errors
    /// If the source is no longer read.
    pub async fn apply(&self, delta: IrDelta) -> Result<Ack, Ended> {
        self.apply_with(delta, Secrets::default()).await
    }

    /// Applies these changes, whose records refer to these secrets, and waits for the result.
    ///
    /// # Errors
    /// If the source is no longer read.
    pub async fn apply_with(&self, delta: IrDelta, secrets: Secrets) -> Result<Ack, Ended> {
        self.send(Records::Changed(Box::new(delta)), secrets, None).await
    }

    /// Replaces all records, and waits for the result.
    ///
    /// # Errors
    /// If the source is no longer read.
    pub async fn replace(&self, ir: Arc<Ir>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), Secrets::default(), None).await
    }

    /// Replaces all records and the settings of the node, and waits for the result.
    ///
    /// # Errors
    /// If the source is no longer read.
    pub async fn replace_all(&self, ir: Arc<Ir>, node: Arc<NodeSettings>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), Secrets::default(), Some(node)).await
    }

    /// Changes the settings of the node and these records, and waits for the result.
    ///
    /// # Errors
    /// If the source is no longer read.
    pub async fn configure(&self, node: Arc<NodeSettings>, delta: IrDelta) -> Result<Ack, Ended> {
        self.send(Records::Changed(Box::new(delta)), Secrets::default(), Some(node)).await
    }

    async fn send(&self, records: Records, secrets: Secrets, node: Option<Arc<NodeSettings>>) -> Result<Ack, Ended> {
        let (reply, result) = oneshot::channel();
        self.0.send(Change { records, secrets, node, reply }).await.map_err(|_| Ended)?;
        result.await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests;
