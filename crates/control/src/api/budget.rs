//! [`Budget`]: memory that all requests and responses of the API may hold together.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of the bodies of all requests that are read or answered, and of those of all responses that are sent.
pub(super) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Connections of all addresses at once; further ones wait.
const CONNECTIONS_MAX: usize = 1_024;
/// A budget counts in units of this many bytes.
const UNIT: usize = 4 << 10;

/// What the API may hold; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    requests: Arc<Semaphore>,
    responses: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    units: usize,
}

/// Memory that is held. It is given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    /// For this many bytes of requests, and as many of responses.
    pub(super) fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let semaphore = || Arc::new(Semaphore::new(units));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { requests: semaphore(), responses: semaphore(), connections, units }
    }

    /// Waits for a place for a connection.
    pub(super) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).acquire_owned().await.ok()
    }

    /// Holds a part of a request in addition; false if there is no room now.
    pub(super) fn hold(&self, bytes: usize, held: &mut Held) -> bool {
        let Some(more) = self.take(&self.requests, bytes) else { return false };
        match &mut held.0 {
            Some(permit) => permit.merge(more),
            None => held.0 = Some(more),
        }
        true
    }

    /// The text of a response, which is held until it is sent; `None` if there is no room now.
    pub(super) fn response(&self, text: String) -> Option<Bytes> {
        let permit = self.take(&self.responses, text.len())?;
        Some(Bytes::from_owner(Sent { text, _permit: permit }))
    }

    fn take(&self, from: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // One that is larger than all of it has it alone.
        let units = u32::try_from(bytes.div_ceil(UNIT).min(self.units)).unwrap_or(u32::MAX);
        Arc::clone(from).try_acquire_many_owned(units).ok()
    }
}

struct Sent {
    text: String,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let budget = Budget::new(3 * UNIT);
        let (mut one, mut other) = (Held::default(), Held::default());
        assert!(budget.hold(1, &mut one) && budget.hold(UNIT + 1, &mut one));
        assert!(!budget.hold(1, &mut other));
        drop(one);
        assert!(budget.hold(1, &mut other));
        // Responses have a budget of their own, and a large one has all of it.
        let text = "x".repeat(9 * UNIT);
        let sent = budget.response(text.clone()).unwrap();
        let part = sent.slice(5..6);
        drop(sent);
        assert!(budget.response("more".to_owned()).is_none());
        drop(part);
        assert_eq!(budget.response(text).map(|sent| sent.len()), Some(9 * UNIT));
    }
}
