//! Read buffers from a per-thread pool: a connection holds one only while bytes are in flight.
//!
//! There are two sizes. Large buffers need fewer system calls for a long body; a thread lends only a few of them at a
//! time, so that many slow receivers cannot use up much memory.

use std::cell::{Cell, RefCell};

use cardinal_base::ObjectPool;

/// Size of a buffer, bytes.
pub const SIZE: usize = 16 * 1024;

/// Size of a large buffer, bytes: a body of 64 KiB and its head fit into one read.
pub(crate) const LARGE: usize = 128 * 1024;

/// Maximum number of buffers that a thread keeps for reuse; [`sweep`] frees buffers that were not needed for a while.
const KEPT_MAX: usize = 16 * 1024;

/// Maximum number of large buffers that a thread keeps.
const LARGE_KEPT: usize = 8;

/// Maximum number of large buffers lent at a time; further connections use ordinary buffers.
const LARGE_LENT_MAX: usize = 32;

/// Capacity of an output vector, bytes.
const OUTPUT: usize = 2048;

thread_local! {
    static FREE: RefCell<ObjectPool<Vec<u8>>> = const { RefCell::new(ObjectPool::new(KEPT_MAX)) };
    static FREE_LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE_LENT: Cell<usize> = const { Cell::new(0) };
    static FREE_OUTPUT: RefCell<ObjectPool<Vec<u8>>> = const { RefCell::new(ObjectPool::new(KEPT_MAX)) };
}

/// Frees buffers of this thread that were not needed lately. To be called about once per second.
pub fn sweep() {
    FREE.with_borrow_mut(ObjectPool::sweep);
    FREE_OUTPUT.with_borrow_mut(ObjectPool::sweep);
}

/// An empty vector for output.
pub fn take_output() -> Vec<u8> {
    FREE_OUTPUT.with_borrow_mut(ObjectPool::take).unwrap_or_else(|| Vec::with_capacity(OUTPUT))
}

/// Number of output vectors kept by this thread.
#[cfg(test)]
pub(crate) fn outputs_kept() -> usize {
    FREE_OUTPUT.with_borrow(ObjectPool::len)
}

/// Returns an output vector for reuse; a vector that has grown large, or was not taken from the pool, is freed.
pub fn give_output(mut bytes: Vec<u8>) {
    if bytes.capacity() < OUTPUT || bytes.capacity() > 2 * SIZE {
        return;
    }
    bytes.clear();
    FREE_OUTPUT.with_borrow_mut(|free| free.give(bytes));
}

/// A buffer of [`SIZE`] bytes with arbitrary content.
fn take() -> Vec<u8> {
    FREE.with_borrow_mut(ObjectPool::take).unwrap_or_else(|| vec![0; SIZE])
}

fn give(bytes: Vec<u8>) {
    if bytes.len() == SIZE {
        FREE.with_borrow_mut(|free| free.give(bytes));
    }
}

/// A buffer of [`LARGE`] bytes, if the limit allows.
fn take_large() -> Option<Vec<u8>> {
    if LARGE_LENT.get() >= LARGE_LENT_MAX {
        return None;
    }
    LARGE_LENT.set(LARGE_LENT.get() + 1);
    Some(FREE_LARGE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; LARGE]))
}

fn give_large(bytes: Vec<u8>) {
    LARGE_LENT.set(LARGE_LENT.get().saturating_sub(1));
    FREE_LARGE.with_borrow_mut(|free| {
        if bytes.len() == LARGE && free.len() < LARGE_KEPT {
            free.push(bytes);
        }
    });
}

/// Bytes that were read and not yet consumed. Holds no memory while empty.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The memory is a large buffer.
    large: bool,
}

impl Buffer {
    /// Creates a buffer with these bytes.
    pub fn with(bytes: &[u8]) -> Self {
        let mut buffer = Self::default();
        if !bytes.is_empty() {
            buffer.bytes = if bytes.len() <= SIZE { take() } else { vec![0; bytes.len()] };
            if let Some(place) = buffer.bytes.get_mut(..bytes.len()) {
                place.copy_from_slice(bytes);
            }
            buffer.end = bytes.len();
        }
        buffer
    }

    /// The unread bytes.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Number of unread bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are no unread bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Removes bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Free space to read into, at least one byte; grows up to `max` bytes of unread content. `None` at that limit.
    pub fn room(&mut self, max: usize) -> Option<&mut [u8]> {
        if self.bytes.is_empty() {
            self.bytes = take();
        }
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.bytes.len() < max {
                let larger = (self.bytes.len() * 2).min(max);
                self.bytes.resize(larger, 0);
            } else {
                return None;
            }
        }
        self.bytes.get_mut(self.end..)
    }

    /// Appends bytes, as long as the unread content stays within `max`; returns how many were appended.
    pub fn extend(&mut self, mut bytes: &[u8], max: usize) -> usize {
        let before = bytes.len();
        while !bytes.is_empty() {
            let Some(room) = self.room(max) else { break };
            let count = room.len().min(bytes.len());
            if let (Some(place), Some(part)) = (room.get_mut(..count), bytes.get(..count)) {
                place.copy_from_slice(part);
            }
            self.advance(count);
            bytes = bytes.get(count..).unwrap_or_default();
        }
        before - bytes.len()
    }

    /// Switches to a large buffer, if nothing is unread and the limit allows.
    pub fn enlarge(&mut self) {
        if self.large || !self.is_empty() {
            return;
        }
        if let Some(larger) = take_large() {
            self.give_back();
            (self.bytes, self.large) = (larger, true);
        }
    }

    /// Marks `count` bytes of [`Buffer::room`] as read.
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Releases the memory if nothing is unread.
    pub fn release(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            (self.start, self.end) = (0, 0);
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if std::mem::take(&mut self.large) {
            give_large(bytes);
        } else {
            give(bytes);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::default();
        for round in 0..5_u8 {
            let room = buffer.room(SIZE).unwrap();
            room[..10].fill(round);
            buffer.advance(10);
            buffer.consume(4);
        }
        assert_eq!(buffer.len(), 30);
        buffer.consume(29);
        assert_eq!(buffer.filled(), [4]);
        buffer.consume(100);
        buffer.release();
        assert!(buffer.is_empty() && buffer.bytes.is_empty());
    }

    #[test]
    fn large_buffers_are_lent_to_a_few_only() {
        let mut buffers: Vec<Buffer> = (0..LARGE_LENT_MAX + 1).map(|_| Buffer::default()).collect();
        buffers.iter_mut().for_each(Buffer::enlarge);
        let sizes: Vec<usize> = buffers.iter_mut().map(|b| b.room(SIZE).unwrap().len()).collect();
        assert_eq!(sizes.iter().filter(|size| **size == LARGE).count(), LARGE_LENT_MAX);
        assert_eq!(sizes.last(), Some(&SIZE));
        // A buffer that is released or dropped can be lent again; unread bytes stay in place.
        buffers[0].release();
        drop(buffers.remove(1));
        let mut other = Buffer::with(b"unread");
        other.enlarge();
        assert_eq!((other.filled(), other.large), (&b"unread"[..], false));
        other.consume(6);
        other.enlarge();
        assert!(other.large);
        buffers[0].enlarge();
        assert!(buffers[0].large);
        let last = buffers.last_mut().unwrap();
        last.enlarge();
        assert!(!last.large);
        drop((buffers, other));
        assert_eq!((LARGE_LENT.get(), FREE_LARGE.with_borrow(Vec::len)), (0, LARGE_KEPT));
    }

    #[test]
    fn growth_stops_at_the_limit() {
        let mut buffer = Buffer::default();
        while let Some(room) = buffer.room(40_000) {
            let len = room.len();
            buffer.advance(len);
        }
        assert_eq!(buffer.len(), 40_000);
    }
}
