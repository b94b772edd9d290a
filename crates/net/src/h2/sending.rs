//! Sending on streams: heads, bodies, and the ends of streams.

use std::task::{Context, Poll};

use cardinal_http::{HeaderList, ResponseHead};

use super::error::{Code, H2Error};
use super::frame::{self, HEAD, flag, kind};
use super::head::{FieldWriter, Target};
use super::state::{Role, State};
use super::streams::{NOWHERE, Stream};
use crate::NetError;

/// Limit on unsent output above which bodies have to wait.
pub(super) const OUT_MAX: usize = 64 * 1024;

impl State {
    /// Number of unsent output bytes.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// The stream, if it can still send.
    fn sendable(&mut self, slot: u32) -> Result<&mut Stream, NetError> {
        let stream = self.streams.get_mut(slot).ok_or(NetError::Closed)?;
        match stream.error {
            Some(error) => Err(NetError::H2(error)),
            None if stream.send_done => Err(NetError::Unsendable("no more may follow")),
            None => Ok(stream),
        }
    }

    /// Writes a header block and the frames that carry it.
    fn send_block(&mut self, id: u32, end: bool, fields: impl FnOnce(&mut FieldWriter<'_>)) {
        let start = self.out.len();
        let end_stream = if end { flag::END_STREAM } else { 0 };
        frame::head(&mut self.out, 0, kind::HEADERS, end_stream | flag::END_HEADERS, id);
        self.encoder.start(&mut self.out);
        fields(&mut FieldWriter { encoder: &mut self.encoder, out: &mut self.out });
        let length = self.out.len() - start - HEAD;
        if length > self.peer_payload_max {
            let block = self.out.split_off(start + HEAD);
            self.out.truncate(start);
            let last = block.len().div_ceil(self.peer_payload_max) - 1;
            for (at, part) in block.chunks(self.peer_payload_max).enumerate() {
                let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
                let flags = if at == 0 { end_stream } else { 0 } | if at == last { flag::END_HEADERS } else { 0 };
                frame::head(&mut self.out, part.len(), kind, flags, id);
                self.out.extend_from_slice(part);
            }
        } else {
            self.set_length(start, length);
        }
        self.wake_driver();
    }

    /// Sets the length in the header of a frame in the output.
    fn set_length(&mut self, at: usize, length: usize) {
        let [_, bytes @ ..] = frame::length_bytes(length);
        if let Some(place) = self.out.get_mut(at..at + 3) {
            place.copy_from_slice(&bytes);
        }
    }

    /// Server role: sends the response head.
    pub(super) fn send_response(&mut self, slot: u32, head: &ResponseHead, end: bool) -> Result<(), NetError> {
        if !(100..1000).contains(&head.status) {
            return Err(NetError::Unsendable("status"));
        }
        let stream = self.sendable(slot)?;
        let (id, end) = (stream.id, end && head.status >= 200);
        stream.send_done = end;
        self.send_block(id, end, |fields| {
            fields.encoder.status(head.status, fields.out);
            fields.append_all(&head.headers);
        });
        self.settle(slot);
        Ok(())
    }

    /// Client role: opens a stream; `end` means that no body follows. Returns the slot.
    pub(super) fn send_request(
        &mut self,
        target: &Target<'_>,
        end: bool,
        fields: impl FnOnce(&mut FieldWriter<'_>),
    ) -> Result<u32, NetError> {
        if let Some(error) = self.refusal() {
            return Err(NetError::H2(error));
        }
        let id = self.next_id;
        self.next_id += 2;
        let slot = self.streams.open(Stream {
            id,
            held: true,
            receive_window: self.stream_window(),
            send_window: self.peer_window,
            send_done: end,
            bodyless: *target.method == cardinal_http::Method::Head,
            last_data: NOWHERE,
            ..Stream::default()
        });
        self.send_block(id, end, |writer| {
            writer.target(target);
            fields(writer);
        });
        Ok(slot)
    }

    /// Client role: why no stream can be opened.
    pub(super) fn refusal(&self) -> Option<H2Error> {
        match self.dead {
            Some(error) => Some(error),
            None if self.peer_leaves || self.next_id > 0x7fff_ffff => Some(H2Error::GoAway(Code::NO_ERROR)),
            None => None,
        }
    }

    /// Sends part of a body; returns the number of bytes taken. `Pending` if a window or the output is full.
    pub(super) fn poll_send(&mut self, slot: u32, cx: &Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        let payload_max = self.peer_payload_max;
        let open = self.send_window > 0 && self.unsent() < OUT_MAX;
        let connection_window = self.send_window;
        let nobody_waits = self.waiting.is_empty();
        let stream = self.sendable(slot)?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if stream.send_window <= 0 {
            stream.register(cx);
            return Poll::Pending;
        }
        let granted = std::mem::take(&mut stream.granted);
        if !open || !(granted || nobody_waits) {
            stream.register(cx);
            if !std::mem::replace(&mut stream.queued, true) {
                self.waiting.push_back(slot);
            }
            self.wake_driver();
            return Poll::Pending;
        }
        let window = usize::try_from(stream.send_window.min(connection_window)).unwrap_or(0);
        let count = data.len().min(window).min(payload_max);
        stream.send_window -= count as i64;
        let (id, last_data) = (stream.id, stream.last_data);
        self.send_window -= count as i64;
        let part = data.get(..count).unwrap_or(data);
        match self.growing_frame(last_data, count) {
            Some((at, length)) => self.set_length(at, length),
            None => {
                let begins = self.base + self.out.len() as u64;
                frame::head(&mut self.out, count, kind::DATA, 0, id);
                if let Some(stream) = self.streams.get_mut(slot) {
                    stream.last_data = begins;
                }
            }
        }
        self.out.extend_from_slice(part);
        self.wake_driver();
        Poll::Ready(Ok(count))
    }

    /// The position of a frame in the output, if nothing of it has been sent.
    fn place_of(&self, begins: u64) -> Option<usize> {
        let at = usize::try_from(begins.checked_sub(self.base)?).ok()?;
        (begins != NOWHERE && at >= self.written && at < self.out.len()).then_some(at)
    }

    /// If this frame is the last in the output and has room for `more` bytes: its position and its new length.
    fn growing_frame(&self, begins: u64, more: usize) -> Option<(usize, usize)> {
        let at = self.place_of(begins)?;
        let length = self.out.len() - at - HEAD;
        let head = frame::FrameHead::parse(self.out.get(at..)?)?;
        (head.length == length && length + more <= self.peer_payload_max).then_some((at, length + more))
    }

    /// Ends the sending side of a stream.
    pub(super) fn finish(&mut self, slot: u32, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        let stream = self.sendable(slot)?;
        let (id, last_data) = (stream.id, stream.last_data);
        stream.send_done = true;
        match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => self.send_block(id, true, |fields| fields.append_all(trailers)),
            None => match self.place_of(last_data).and_then(|at| self.out.get_mut(at + 4)) {
                // The last DATA frame ends the stream.
                Some(flags) => *flags |= flag::END_STREAM,
                None => frame::head(&mut self.out, 0, kind::DATA, flag::END_STREAM, id),
            },
        }
        self.wake_driver();
        self.settle(slot);
        Ok(())
    }

    /// Wakes as many waiting streams as there is room for: each may send one frame, and is then queued behind the
    /// others.
    pub(super) fn go_on(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let room = i64::try_from(OUT_MAX.saturating_sub(self.unsent())).unwrap_or(0);
        let mut left = self.send_window.min(room);
        while left > 0
            && let Some(slot) = self.waiting.pop_front()
        {
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.queued = false;
            // A stream whose own window was reduced below zero is woken when its window opens, and does not block
            // others.
            if stream.send_window > 0 {
                stream.granted = true;
                stream.wake();
                left -= self.peer_payload_max as i64;
            }
        }
    }

    /// Releases a stream whose handle was dropped; `unread` bytes received by the handle were not consumed. An
    /// unfinished stream is reset: with NO_ERROR if the response is complete (RFC 9113 section 8.1).
    pub(super) fn release(&mut self, slot: u32, unread: usize) {
        let role = self.role;
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.held = false;
        stream.waker = None;
        let unread = unread + stream.body.len();
        stream.body = crate::buffer::Buffer::default();
        let code = if role == Role::Server && stream.send_done { Code::NO_ERROR } else { Code::CANCEL };
        self.used_up(None, unread);
        self.reset(slot, code);
        // If the stream has already ended, only its slot is freed.
        self.settle(slot);
        // The connection may end with its last stream.
        self.wake_driver();
    }

    /// Resets a stream that has not ended.
    pub(super) fn reset(&mut self, slot: u32, code: Code) {
        self.end_early(slot, H2Error::Stream(code, "ended by this side"));
    }
}
