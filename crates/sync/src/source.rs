//! [`ConfigSource`]: the source of a node's configuration.

use std::pin::Pin;

use crate::{Ack, Update};

/// The future of [`ConfigSource::next`].
pub type Next<'s> = Pin<Box<dyn Future<Output = Option<Update>> + Send + 's>>;

/// The source of a node's configuration.
///
/// The first update is the whole configuration. Each update is acknowledged before the next one is requested, so that
/// the source knows the active configuration.
pub trait ConfigSource: Send {
    /// Waits for the next update; `None` if no more will follow. The future may be dropped and created again without
    /// losing an update. A source may block the thread while it reads and converts a configuration.
    fn next(&mut self) -> Next<'_>;

    /// Receives the result of the last update.
    fn ack(&mut self, ack: Ack);
}
