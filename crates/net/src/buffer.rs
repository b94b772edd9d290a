//! Read buffers, from a pool of the thread: held only while bytes are in flight.
//!
//! There are two sizes. Large buffers make fewer system calls of a long body; a thread lends only a few of them at a
//! time, so that many slow receivers cannot make it hold much.

use std::cell::{Cell, RefCell};

use cardinal_base::ObjectPool;

/// Bytes of a buffer.
pub const SIZE: usize = 16 * 1024;

/// Bytes of a large buffer: a body of 64 KiB and its head come with one call.
pub(crate) const LARGE: usize = 128 * 1024;

/// Buffers that a thread keeps for the next connections that need them, at most: [`sweep`] gives up what a while did not
/// need.
const KEPT_MAX: usize = 16 * 1024;

/// Large buffers that a thread keeps.
const LARGE_KEPT: usize = 8;

/// Large buffers that a thread lends at a time; connections beyond that go on with ordinary ones.
const LARGE_LENT_MAX: usize = 32;

/// Capacity of a vector to gather output in.
const OUTPUT: usize = 2048;

thread_local! {
    static FREE: RefCell<ObjectPool<Vec<u8>>> = const { RefCell::new(ObjectPool::new(KEPT_MAX)) };
    static FREE_LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE_LENT: Cell<usize> = const { Cell::new(0) };
    static FREE_OUTPUT: RefCell<ObjectPool<Vec<u8>>> = const { RefCell::new(ObjectPool::new(KEPT_MAX)) };
}

/// Gives up buffers of this thread that were not needed lately. Call it every second or so.
pub fn sweep() {
    FREE.with_borrow_mut(ObjectPool::sweep);
    FREE_OUTPUT.with_borrow_mut(ObjectPool::sweep);
}

/// An empty vector to gather output in.
pub fn take_output() -> Vec<u8> {
    FREE_OUTPUT.with_borrow_mut(ObjectPool::take).unwrap_or_else(|| Vec::with_capacity(OUTPUT))
}

/// Vectors that this thread has for outputs.
#[cfg(test)]
pub(crate) fn outputs_kept() -> usize {
    FREE_OUTPUT.with_borrow(ObjectPool::len)
}

/// Takes a vector back; one that grew large, or never was one of ours, is freed.
pub fn give_output(mut bytes: Vec<u8>) {
    if bytes.capacity() < OUTPUT || bytes.capacity() > 2 * SIZE {
        return;
    }
    bytes.clear();
    FREE_OUTPUT.with_borrow_mut(|free| free.give(bytes));
}

/// A buffer of [`SIZE`] zeroed or stale bytes.
fn take() -> Vec<u8> {
    FREE.with_borrow_mut(ObjectPool::take).unwrap_or_else(|| vec![0; SIZE])
}

fn give(bytes: Vec<u8>) {
    if bytes.len() == SIZE {
        FREE.with_borrow_mut(|free| free.give(bytes));
    }
}

/// A buffer of [`LARGE`] bytes, if there is one to lend.
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

/// Bytes that were read and not yet used. Without memory while empty.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The memory is a large buffer.
    large: bool,
}

impl Buffer {
    /// A buffer that starts with these bytes.
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

    /// What was read.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// How much was read.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room to read into, at least one byte; grows up to `max` bytes of unread content. `None` at that limit.
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

    /// Adds bytes at the end, as many as keep the unread content below `max`; says how many.
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

    /// Takes a large buffer to read into, if nothing is unread and there is one to lend.
    pub fn enlarge(&mut self) {
        if self.large || !self.is_empty() {
            return;
        }
        if let Some(larger) = take_large() {
            self.give_back();
            (self.bytes, self.large) = (larger, true);
        }
    }

    /// So many bytes were read into [`Buffer::room`].
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Gives the memory back when nothing is left.
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
        // One that is given back, in either way, can be lent again; unread bytes stay where they are.
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
