//! [`Shared`]: the state that all servers share, with its limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cardinal_sdk::redis::RedisError;
use tokio::runtime::Handle;

use crate::connector::Connector;

/// Limits of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum number of concurrent calls to all servers; further calls are rejected.
    pub(super) calls_max: usize,
    /// Maximum number of bytes received on a connection without completing a call.
    pub(super) reply_bytes_max: u64,
    /// Idle timeout. An idle connection is closed after at most twice this time.
    pub(super) idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_max: 16_384, reply_bytes_max: 64 * 1024 * 1024, idle_timeout: Duration::from_secs(60) }
    }
}

/// The state shared by all servers.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) runtime: Handle,
    pub(super) calls: AtomicUsize,
    pub(super) limits: Limits,
}

impl Shared {
    /// Acquires the permit of a call.
    pub(super) fn enter(&self) -> Result<Place<'_>, RedisError> {
        let place = Place(&self.calls);
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.limits.calls_max {
            return Err(RedisError::Local("too many calls to Redis servers at once".to_owned()));
        }
        Ok(place)
    }
}

/// A call in progress.
pub(super) struct Place<'c>(&'c AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
