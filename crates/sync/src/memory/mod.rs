//! [`MemorySource`]: changes from within the process.

use std::sync::Arc;

use cardinal_ir::{Ir, IrDelta, NodeSettings, Secrets};
use tokio::sync::{mpsc, oneshot};

use crate::{Ack, ConfigOutcome, ConfigSource, ConfigStatus, Next, Update};

/// Changes that may wait. A caller with one more waits until there is room.
const WAITING_MAX: usize = 64;

/// Secrets that are kept at least before unused ones are removed.
const UNUSED_SECRETS_MAX: usize = 1_024;

/// A source whose changes come from within the process, through its [`MemoryHandle`]. Ends when all handles are dropped.
pub struct MemorySource {
    changes: mpsc::Receiver<Change>,
    /// The update that is to be acknowledged.
    pending: Option<Pending>,
    /// What was acknowledged last.
    served: Arc<Ir>,
    /// The secrets of what was acknowledged last, and some that it does not refer to any more.
    secrets: Secrets,
    /// Number of secrets above which those that are not used are removed.
    secrets_max: usize,
    status: Arc<ConfigStatus>,
}

/// Sends changes to a [`MemorySource`]. Clones send to the same one; changes take effect in the order they are sent.
#[derive(Clone, Debug)]
pub struct MemoryHandle(mpsc::Sender<Change>);

/// Nothing follows the source any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of the configuration has ended")]
pub struct Ended;

#[derive(Debug)]
struct Change {
    records: Records,
    /// Secrets that the new records refer to.
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
    /// A source without records, which reports to `status`.
    pub fn new(status: Arc<ConfigStatus>) -> (MemoryHandle, Self) {
        let (handle, changes) = mpsc::channel(WAITING_MAX);
        let (served, secrets, secrets_max) = (Arc::default(), Secrets::default(), UNUSED_SECRETS_MAX);
        (MemoryHandle(handle), Self { changes, pending: None, served, secrets, secrets_max, status })
    }

    /// The generation that was acknowledged last.
    pub fn served(&self) -> &Arc<Ir> {
        &self.served
    }

    /// The secrets of the next generation. To look for those that are not used any more takes time that depends on the size
    /// of the generation, so it is done only when the number has doubled.
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
            // An update that was not acknowledged is not served; its sender learns that nothing follows.
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
    /// Makes these changes, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn apply(&self, delta: IrDelta) -> Result<Ack, Ended> {
        self.apply_with(delta, Secrets::default()).await
    }

    /// Makes these changes, whose records refer to these secrets, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn apply_with(&self, delta: IrDelta, secrets: Secrets) -> Result<Ack, Ended> {
        self.send(Records::Changed(Box::new(delta)), secrets, None).await
    }

    /// Replaces all records, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn replace(&self, ir: Arc<Ir>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), Secrets::default(), None).await
    }

    /// Replaces all records and the settings of the node, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn replace_all(&self, ir: Arc<Ir>, node: Arc<NodeSettings>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), Secrets::default(), Some(node)).await
    }

    /// Changes the settings of the node and these records, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
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
