//! [`Replay`]: the beginning of a request body, buffered for retries.

use std::sync::Arc;

use cardinal_base::{Budget, Reservation};

/// The beginning of a streamed request body. It is kept as long as it contains everything sent so far, so that a retry
/// can send it again.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) bytes: Vec<u8>,
    pub(crate) max: usize,
    held: Reservation,
    budget: Arc<Budget>,
}

impl Replay {
    /// Keeps up to `max` bytes, accounted in `held`.
    pub(crate) fn new(max: usize, held: Reservation, budget: &Arc<Budget>) -> Box<Self> {
        Box::new(Self { bytes: Vec::new(), max, held, budget: Arc::clone(budget) })
    }

    /// Appends data; `false` if the limit or the memory budget is exceeded.
    pub(crate) fn keep(&mut self, data: &[u8]) -> bool {
        let fits = data.len() <= self.max - self.bytes.len();
        let kept = fits && self.held.make_room(&self.budget, &mut self.bytes, data.len(), self.max).is_ok();
        if kept {
            self.bytes.extend_from_slice(data);
        }
        kept
    }
}
