//! [`Hashing`]: slow hashes, one at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::token;
use crate::dao::{Dao, Fault};

/// Requests that wait for a hash at most; further ones are refused.
const WAITING_MAX: usize = 16;

/// Computes hashes on a thread that may be busy, one at a time.
#[derive(Debug)]
pub(super) struct Hashing {
    waiting: Semaphore,
    running: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { waiting: Semaphore::new(WAITING_MAX), running: Arc::new(Semaphore::new(1)) }
    }
}

impl Hashing {
    /// The hash of a token, with a salt of its own.
    pub(super) async fn hash(&self, dao: &Dao, token: &str) -> Result<String, Fault> {
        let (salt, token) = (dao.random_bytes(), token.to_owned());
        self.run(move || token::hash(&token, salt)).await
    }

    /// Whether a hash is that of a token.
    pub(super) async fn verify(&self, token: &str, stored: &str) -> Result<bool, Fault> {
        let (token, stored) = (token.to_owned(), stored.to_owned());
        self.run(move || token::verify(&token, &stored)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let busy = || Fault::message(429, "too many tokens are being verified; try again later");
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work: a client that goes away does not make room for another hash.
            let _running = running;
            work()
        });
        done.await.map_err(|_| Fault::message(500, "a token could not be verified"))
    }
}
