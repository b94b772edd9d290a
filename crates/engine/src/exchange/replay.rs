//! [`Replay`]: the beginning of a request body, kept for another try.

use std::sync::Arc;

use cardinal_base::{Budget, Reservation};

/// The beginning of a request body that is streamed, kept while it is all that has moved: so that another endpoint can be
/// sent the same.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) bytes: Vec<u8>,
    pub(crate) max: usize,
    held: Reservation,
    budget: Arc<Budget>,
}

impl Replay {
    /// Keeps up to `max` bytes, which `held` counts.
    pub(crate) fn new(max: usize, held: Reservation, budget: &Arc<Budget>) -> Box<Self> {
        Box::new(Self { bytes: Vec::new(), max, held, budget: Arc::clone(budget) })
    }

    /// Keeps more; `false` when there is no room for it.
    pub(crate) fn keep(&mut self, data: &[u8]) -> bool {
        let fits = data.len() <= self.max - self.bytes.len();
        let kept = fits && self.held.make_room(&self.budget, &mut self.bytes, data.len(), self.max).is_ok();
        if kept {
            self.bytes.extend_from_slice(data);
        }
        kept
    }
}
