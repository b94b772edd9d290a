//! [`Budget`]: a limit on memory that many hold parts of, and [`Reservation`]: the part of one holder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A limit on bytes held, of the node or of one connection, which then counts for the node's as well.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: AtomicUsize,
    refused: AtomicU64,
    parent: Option<Arc<Self>>,
}

/// The budget cannot grant the requested bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory budget for bodies is exhausted")]
pub struct Exhausted;

impl Budget {
    /// A budget of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max: AtomicUsize::new(max), refused: AtomicU64::new(0), parent: None }
    }

    /// A budget of at most `max` bytes within this one.
    #[must_use]
    pub fn child(self: &Arc<Self>, max: usize) -> Self {
        Self { parent: Some(Arc::clone(self)), ..Self::new(max) }
    }

    /// Changes the limit. What is held stays held.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// The limit.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How often there was no room, since the start, in this budget or in one within it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether there is room for so many bytes, without reserving them.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.max() && self.parent.as_ref().is_none_or(|p| p.has_room(bytes))
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|sum| sum <= self.max());
        let taken = if fits { self.parent.as_ref().map_or(Ok(()), |parent| parent.take(bytes)) } else { self.refuse() };
        if taken.is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn refuse(&self) -> Result<(), Exhausted> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.refused.fetch_add(1, Ordering::Relaxed);
        }
        Err(Exhausted)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// Bytes of a budget, given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation {
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Reservation {
    /// Nothing yet, of this budget.
    pub const fn of(budget: Arc<Budget>) -> Self {
        Self { budget: Some(budget), bytes: 0 }
    }

    /// Takes so many bytes more; of `default` when the reservation is of no budget yet.
    ///
    /// # Errors
    /// When there is no room; then nothing changes.
    pub fn grow(&mut self, default: &Arc<Budget>, bytes: usize) -> Result<(), Exhausted> {
        self.budget.get_or_insert_with(|| Arc::clone(default)).take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Makes room in a vector, whose capacity this reservation counts, for `more` bytes: twice as much each time, but
    /// not more than the `expected` bytes in all unless they do not suffice.
    ///
    /// # Errors
    /// When the budget has no room; then nothing changes.
    pub fn make_room(
        &mut self,
        default: &Arc<Budget>,
        bytes: &mut Vec<u8>,
        more: usize,
        expected: usize,
    ) -> Result<(), Exhausted> {
        let needed = bytes.len().saturating_add(more);
        if needed <= bytes.capacity() {
            return Ok(());
        }
        let capacity = bytes.capacity().saturating_mul(2).min(expected).max(needed);
        self.grow(default, capacity - bytes.capacity())?;
        bytes.reserve_exact(capacity - bytes.len());
        Ok(())
    }

    /// Whether there is room for so many bytes more.
    pub fn fits(&self, default: &Budget, bytes: usize) -> bool {
        self.budget.as_deref().unwrap_or(default).has_room(bytes)
    }

    /// Gives so many bytes back, at most all.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if let Some(budget) = self.budget.as_ref().filter(|_| bytes > 0) {
            budget.give_back(bytes);
        }
        self.bytes -= bytes;
    }

    /// Splits so many bytes off, at most all, into a reservation of their own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    /// Gives everything back, and is of no budget any more.
    pub fn clear(&mut self) {
        if self.budget.is_some() {
            *self = Self::default();
        }
    }

    /// Bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_of_a_vector_is_counted() {
        let node = Arc::new(Budget::new(100));
        let (mut held, mut bytes) = (Reservation::default(), Vec::new());
        for (more, counted) in [(10, 10), (1, 20), (9, 20), (20, 40), (5, 70), (20, 70), (30, 95)] {
            held.make_room(&node, &mut bytes, more, 70).unwrap();
            bytes.resize(bytes.len() + more, 0_u8);
            assert_eq!((held.bytes(), bytes.capacity()), (counted, counted));
        }
        assert_eq!(held.make_room(&node, &mut bytes, 6, 70), Err(Exhausted));
        assert_eq!((held.bytes(), bytes.capacity(), node.used()), (95, 95, 95));
    }

    #[test]
    fn everything_is_given_back() {
        let node = Arc::new(Budget::new(100));
        let connection = Arc::new(node.child(60));
        let mut one = Reservation::of(Arc::clone(&connection));
        let mut other = Reservation::default();
        one.grow(&node, 50).unwrap();
        assert_eq!(one.grow(&node, 11), Err(Exhausted), "more than the connection's");
        other.grow(&node, 50).unwrap();
        assert_eq!(one.grow(&node, 10), Err(Exhausted), "more than the node's");
        assert_eq!((connection.used(), node.used(), node.refused()), (50, 100, 2));
        assert!(!one.fits(&node, 1));
        other.shrink(20);
        assert!(one.fits(&node, 10) && !one.fits(&node, 11));
        drop(one.split(30));
        assert_eq!((one.bytes(), connection.used(), node.used()), (20, 20, 50));
        one.clear();
        drop((one, other));
        assert_eq!((connection.used(), node.used()), (0, 0));
        assert_eq!(Reservation::default().grow(&node, usize::MAX), Err(Exhausted));
        assert_eq!(node.used(), 0);
    }
}
