//! The end of the control plane, before the process ends.

use std::time::Duration;

use cardinal_base::timeout;

use super::Control;

/// For commits in progress, and for the database to write what it has.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Control {
    /// Saves what is served, for a start without the database, unless another process serves from now on.
    pub(in crate::run) fn save_last(&self, is_succeeded: bool) {
        match &self.stored {
            Some(stored) if is_succeeded => stored.keeper.abandon(),
            Some(stored) => stored.keeper.finish(),
            None => {}
        }
    }

    /// Ends the API and closes the store: a file of SQLite is complete by itself afterwards.
    pub(in crate::run) fn close(&self) {
        self.stop();
        // Timers are made on the runtime.
        let closing = async { timeout(&*self.clock, CLOSE_TIMEOUT, self.dao.store().close()).await };
        if self.runtime.block_on(closing).is_err() {
            let seconds = CLOSE_TIMEOUT.as_secs();
            tracing::warn!("the database was not closed within {seconds} s; it is completed when it is opened again");
        }
    }
}
