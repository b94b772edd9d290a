//! [`ConfigSource`]: where the configuration of a node comes from.

use std::pin::Pin;

use crate::{Ack, Update};

/// The future of [`ConfigSource::next`].
pub type Next<'s> = Pin<Box<dyn Future<Output = Option<Update>> + Send + 's>>;

/// Where the configuration of a node comes from.
///
/// The first update is the whole configuration. Each update is acknowledged before the next one is asked for, so that a
/// source always knows what is served.
pub trait ConfigSource: Send {
    /// Waits for the next update; `None` when there will be none. The future may be dropped and asked for again without
    /// losing an update. A source may block the thread while it reads and converts a configuration.
    fn next(&mut self) -> Next<'_>;

    /// Receives the result of the last update.
    fn ack(&mut self, ack: Ack);
}
