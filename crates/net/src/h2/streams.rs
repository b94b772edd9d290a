//! The streams of one connection: stored in slots, and found by stream id as long as frames may arrive.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use cardinal_http::{HeaderList, ResponseHead};

use super::error::H2Error;
use crate::buffer::Buffer;

/// Number of recently reset streams for which late frames are recognized.
const RESET_KEPT: usize = 256;

/// Number of free slots that a connection without streams keeps.
const FREE_KEPT: usize = 8;

/// No frame.
pub(super) const NOWHERE: u64 = u64::MAX;

/// One stream. It has ended on both sides when `receive_done` and `send_done` are set.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// A handle of the stream exists.
    pub(super) held: bool,
    /// Received body bytes that have not been read.
    pub(super) body: Buffer,
    /// Receive window.
    pub(super) receive_window: i64,
    /// Number of consumed bytes that have not been returned to the peer's window.
    pub(super) unannounced: u32,
    /// Remaining body bytes according to `content-length`.
    pub(super) length_left: Option<u64>,
    pub(super) receive_done: bool,
    /// Send window.
    pub(super) send_window: i64,
    pub(super) send_done: bool,
    /// Position of the last DATA frame in the output.
    pub(super) last_data: u64,
    /// The stream is queued until it can send.
    pub(super) queued: bool,
    /// The stream was queued, and may send one frame before the queued ones.
    pub(super) granted: bool,
    pub(super) error: Option<H2Error>,
    pub(super) trailers: HeaderList,
    /// Client role: received response heads that have not been read.
    pub(super) heads: VecDeque<ResponseHead>,
    /// Client role: the final response head has been received.
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

    /// Registers the task to be woken on changes.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Whether both sides have ended.
    pub(super) fn is_over(&self) -> bool {
        self.error.is_some() || (self.receive_done && self.send_done)
    }
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    /// Ids and slots of streams that have not ended, ordered by id.
    open: VecDeque<(u32, u32)>,
    /// Ids of streams that this side reset.
    reset: VecDeque<u32>,
    /// Number of slots in use: by streams that have not ended or have a handle.
    used: usize,
}

impl Streams {
    pub(super) fn get(&self, slot: u32) -> Option<&Stream> {
        self.slots.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Stream> {
        self.slots.get_mut(slot as usize)
    }

    /// The slot of a stream that has not ended.
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let at = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.open.get(at).map(|(_, slot)| *slot)
    }

    /// Adds a stream. Ids only increase.
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

    /// Removes a finished stream from the frame lookup; frees its slot if no handle exists.
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

    /// Records that late frames of a stream may arrive.
    pub(super) fn remember_reset(&mut self, id: u32) {
        if self.reset.len() == RESET_KEPT {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }

    /// Number of streams that have not ended.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Number of streams that have not ended or have a handle.
    pub(super) fn used_count(&self) -> usize {
        self.used
    }

    /// The streams that have not ended.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = (u32, u32)> {
        self.open.iter().copied()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut()
    }
}
