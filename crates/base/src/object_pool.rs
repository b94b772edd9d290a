//! [`ObjectPool`]: things that are used again, as many as a while needs at once.

/// A pool of objects for reuse. Objects that were not needed for a while are freed step by step: see
/// [`ObjectPool::sweep`].
#[derive(Debug)]
pub struct ObjectPool<T> {
    free: Vec<T>,
    /// The fewest that were free since the last sweep.
    spare: usize,
    max: usize,
}

impl<T> ObjectPool<T> {
    /// An empty one that keeps at most `max`.
    pub const fn new(max: usize) -> Self {
        Self { free: Vec::new(), spare: 0, max }
    }

    /// The one that was put back last.
    pub fn take(&mut self) -> Option<T> {
        let taken = self.free.pop();
        self.spare = self.spare.min(self.free.len());
        taken
    }

    /// Puts one back; gives it up when there are enough.
    pub fn give(&mut self, item: T) {
        if self.free.len() < self.max {
            self.free.push(item);
        }
    }

    /// Frees half of those that were not used since the last sweep. Call it every second or so.
    pub fn sweep(&mut self) {
        let gone = self.spare.div_ceil(2);
        self.free.drain(..gone.min(self.free.len()));
        self.spare = self.free.len();
        if self.free.is_empty() {
            self.free = Vec::new();
        }
    }

    /// How many are free.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether none is free.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_the_rest_goes() {
        let mut shelf = ObjectPool::new(100);
        (0..150).for_each(|n| shelf.give(n));
        assert_eq!((shelf.len(), shelf.take()), (100, Some(99)));
        shelf.give(99);
        shelf.sweep();
        assert_eq!(shelf.len(), 100);
        // Thirty at a time are needed.
        for _ in 0..10 {
            let taken: Vec<i32> = (0..30).filter_map(|_| shelf.take()).collect();
            taken.into_iter().for_each(|n| shelf.give(n));
            shelf.sweep();
        }
        assert_eq!(shelf.len(), 30);
        // The ones that are used are the ones that were used last.
        assert_eq!(shelf.take(), Some(99));
        shelf.give(99);
        (0..10).for_each(|_| shelf.sweep());
        assert!(shelf.is_empty() && shelf.free.capacity() == 0);
    }
}
