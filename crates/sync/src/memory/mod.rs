//! [`MemorySource`]: changes from within the process.

use std::sync::Arc;

use cardinal_ir::{Ir, IrDelta, NodeSettings};
use tokio::sync::{mpsc, oneshot};

use crate::{Ack, ConfigOutcome, ConfigSource, ConfigStatus, Next, Update};

/// Changes that may wait. A caller with one more waits until there is room.
const WAITING_MAX: usize = 64;

/// A source whose changes come from within the process, through its [`MemoryHandle`]. Ends when all handles are dropped.
pub struct MemorySource {
    changes: mpsc::Receiver<Change>,
    /// The update that is to be acknowledged.
    pending: Option<Pending>,
    /// What was acknowledged last.
    served: Arc<Ir>,
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
    reply: oneshot::Sender<Ack>,
}

impl MemorySource {
    /// A source without records, which reports to `status`.
    pub fn new(status: Arc<ConfigStatus>) -> (MemoryHandle, Self) {
        let (handle, changes) = mpsc::channel(WAITING_MAX);
        (MemoryHandle(handle), Self { changes, pending: None, served: Arc::default(), status })
    }

    /// The generation that was acknowledged last.
    pub fn served(&self) -> &Arc<Ir> {
        &self.served
    }
}

impl ConfigSource for MemorySource {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            let Change { records, node, reply } = self.changes.recv().await?;
            let mut update = match records {
                Records::Changed(delta) => Update::of_delta(&self.served, *delta),
                Records::Replaced(ir) => Update::between(&self.served, &ir),
            };
            if let Some(node) = node {
                update = update.with_node(node);
            }
            // An update that was not acknowledged is not served; its sender learns that nothing follows.
            self.pending = Some(Pending { generation: Arc::clone(update.generation()), reply });
            Some(update)
        })
    }

    fn ack(&mut self, ack: Ack) {
        let Some(Pending { generation, reply }) = self.pending.take() else { return };
        if ack.is_applied() {
            self.served = generation;
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
        self.send(Records::Changed(Box::new(delta)), None).await
    }

    /// Replaces all records, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn replace(&self, ir: Arc<Ir>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), None).await
    }

    /// Replaces all records and the settings of the node, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn replace_all(&self, ir: Arc<Ir>, node: Arc<NodeSettings>) -> Result<Ack, Ended> {
        self.send(Records::Replaced(ir), Some(node)).await
    }

    /// Changes the settings of the node and these records, and waits for the result.
    ///
    /// # Errors
    /// When nothing follows the source.
    pub async fn configure(&self, node: Arc<NodeSettings>, delta: IrDelta) -> Result<Ack, Ended> {
        self.send(Records::Changed(Box::new(delta)), Some(node)).await
    }

    async fn send(&self, records: Records, node: Option<Arc<NodeSettings>>) -> Result<Ack, Ended> {
        let (reply, result) = oneshot::channel();
        self.0.send(Change { records, node, reply }).await.map_err(|_| Ended)?;
        result.await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests;
