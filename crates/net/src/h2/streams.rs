//! The streams of one connection: slots, found by the number on the wire as long as frames may come.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use cardinal_http::{HeaderList, ResponseHead};

use super::error::H2Error;
use crate::buffer::Buffer;

/// Streams that we reset whose late frames are known as such.
const RESET_KEPT: usize = 256;

/// Slots that a connection without streams keeps.
const FREE_KEPT: usize = 8;

/// No frame.
pub(super) const NOWHERE: u64 = u64::MAX;

/// One stream. Both sides have ended it when `receive_done` and `send_done`.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Somebody holds it.
    pub(super) held: bool,
    /// Body bytes that nobody has taken yet.
    pub(super) body: Buffer,
    /// Bytes that the peer may send.
    pub(super) receive_window: i64,
    /// Bytes that were used and not yet announced to the peer.
    pub(super) unannounced: u32,
    /// Body bytes to come, by `content-length`.
    pub(super) length_left: Option<u64>,
    pub(super) receive_done: bool,
    /// Bytes that we may send.
    pub(super) send_window: i64,
    pub(super) send_done: bool,
    /// Where in the output the last DATA frame begins.
    pub(super) last_data: u64,
    /// It waits until more may be sent.
    pub(super) queued: bool,
    /// It has waited, and may send one frame before those that wait.
    pub(super) granted: bool,
    pub(super) error: Option<H2Error>,
    pub(super) trailers: HeaderList,
    /// Client role: heads of responses that nobody has taken yet.
    pub(super) heads: VecDeque<ResponseHead>,
    /// Client role: the final head came.
    pub(super) answered: bool,
    /// Client role: the request was HEAD.
    pub(super) bodyless: bool,
    pub(super) waker: Option<Waker>,
}

impl Stream {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Has this task woken when something changes.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Nothing more will come or go.
    pub(super) fn is_over(&self) -> bool {
        self.error.is_some() || (self.receive_done && self.send_done)
    }
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    /// Numbers and slots of streams that are not over, in the order of numbers.
    open: VecDeque<(u32, u32)>,
    /// Numbers of streams that we reset.
    reset: VecDeque<u32>,
    /// Slots that are in use: of streams that are not over, or that somebody holds.
    used: usize,
}

impl Streams {
    pub(super) fn get(&self, slot: u32) -> Option<&Stream> {
        self.slots.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Stream> {
        self.slots.get_mut(slot as usize)
    }

    /// The slot of a stream that is not over.
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let at = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.open.get(at).map(|(_, slot)| *slot)
    }

    /// Makes a stream. Numbers only grow.
    pub(super) fn open(&mut self, stream: Stream) -> u32 {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Stream::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = stream;
        }
        self.open.push_back((id, slot));
        self.used += 1;
        slot
    }

    /// Takes a stream that is over from those that frames are for; frees its slot if nobody holds it.
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(stream) = self.slots.get_mut(slot as usize).filter(|stream| stream.is_over()) else { return };
        let (id, held) = (stream.id, stream.held);
        if let Ok(at) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(at);
        } else if id == 0 {
            return;
        }
        if held {
            return;
        }
        *stream = Stream::default();
        self.used -= 1;
        self.free.push(slot);
        if self.used == 0 && self.slots.len() > FREE_KEPT {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Remembers that late frames of a stream are to be expected.
    pub(super) fn remember_reset(&mut self, id: u32) {
        if self.reset.len() == RESET_KEPT {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }

    /// How many are not over.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// How many are not over, or held.
    pub(super) fn used_count(&self) -> usize {
        self.used
    }

    /// Those that are not over.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = (u32, u32)> {
        self.open.iter().copied()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut()
    }
}
