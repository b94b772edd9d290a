//! [`H2`]: the handle of a stream, for servers and clients.

use std::rc::Rc;
use std::task::{Context, Poll};

use cardinal_http::{HeaderList, RequestHead, ResponseHead};

use super::driver::Shared;
use super::error::Code;
use crate::NetError;
use crate::buffer::Buffer;

/// One HTTP/2 stream, client or server. Dropping it ends the stream; data already written is still sent.
pub struct H2 {
    link: Shared,
    slot: u32,
    /// Available body bytes that were not consumed.
    current: Buffer,
    receive_done: bool,
    trailers: HeaderList,
    send_done: bool,
    /// Number of bytes received on the connection when the stream was opened.
    received: u64,
}

impl std::fmt::Debug for H2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2")
            .field("receive_done", &self.receive_done)
            .field("send_done", &self.send_done)
            .finish_non_exhaustive()
    }
}

impl H2 {
    /// Creates the handle of the stream in a slot.
    pub(super) fn new(link: &Shared, slot: u32) -> Self {
        let (mut receive_done, received) = (false, link.borrow().received);
        if let Some(stream) = link.borrow().state.streams.get(slot) {
            receive_done = stream.receive_done && stream.body.is_empty() && stream.trailers.is_empty();
        }
        Self {
            received,
            link: Rc::clone(link),
            slot,
            current: Buffer::default(),
            receive_done,
            trailers: HeaderList::new(),
            send_done: false,
        }
    }

    /// Client role: waits for the response head. Informational responses are returned first.
    pub fn poll_response(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<Result<(), NetError>> {
        let mut link = self.link.borrow_mut();
        let stream = link.state.streams.get_mut(self.slot).ok_or(NetError::Closed)?;
        if let Some(next) = stream.heads.pop_front() {
            *head = next;
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = stream.error {
            return Poll::Ready(Err(NetError::H2(error)));
        }
        stream.register(cx);
        Poll::Pending
    }

    /// Server role: sends the response head; `end` means that no body follows.
    pub fn send_response(&mut self, head: &ResponseHead, end: bool) -> Result<(), NetError> {
        self.link.borrow_mut().state.send_response(self.slot, head, end)?;
        self.send_done = end && head.status >= 200;
        Ok(())
    }

    /// See [`H1::poll_body`](crate::h1::H1::poll_body).
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NetError>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.receive_done {
            return Poll::Ready(Ok(false));
        }
        let mut link = self.link.borrow_mut();
        let stream = link.state.streams.get_mut(self.slot).ok_or(NetError::Closed)?;
        if !stream.body.is_empty() {
            std::mem::swap(&mut self.current, &mut stream.body);
            return Poll::Ready(Ok(true));
        }
        if stream.receive_done {
            self.receive_done = true;
            self.trailers = std::mem::take(&mut stream.trailers);
            return Poll::Ready(Ok(false));
        }
        if let Some(error) = stream.error {
            return Poll::Ready(Err(NetError::H2(error)));
        }
        // A stream that waits for body bytes holds no memory.
        self.current.release();
        stream.body.release();
        stream.register(cx);
        Poll::Pending
    }

    /// The available body bytes.
    pub fn data(&self) -> &[u8] {
        self.current.filled()
    }

    /// Marks body bytes as consumed: the peer may send as many more.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.current.len());
        self.current.consume(count);
        self.link.borrow_mut().state.used_up(Some(self.slot), count);
    }

    /// Whether the body was read completely.
    pub fn body_done(&self) -> bool {
        let ended = || {
            let link = self.link.borrow();
            link.state.streams.get(self.slot).is_none_or(|stream| stream.receive_done && stream.body.is_empty())
        };
        self.current.is_empty() && (self.receive_done || ended())
    }

    /// Trailer fields of the body.
    pub fn trailers(&self) -> &HeaderList {
        &self.trailers
    }

    /// See [`H1::poll_send`](crate::h1::H1::poll_send).
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, NetError>> {
        self.link.borrow_mut().state.poll_send(self.slot, cx, data)
    }

    /// Ends the body.
    pub fn finish(&mut self, trailers: Option<&HeaderList>) -> Result<(), NetError> {
        if std::mem::replace(&mut self.send_done, true) {
            return Ok(());
        }
        self.link.borrow_mut().state.finish(self.slot, trailers)
    }

    /// Whether the message was written completely.
    pub fn send_done(&self) -> bool {
        self.send_done
    }

    /// Returns a head for reuse by a later request of the connection.
    pub fn give_head(&self, head: RequestHead) {
        self.link.borrow_mut().state.give_head(head);
    }

    /// Marks the stream as having no body to send.
    pub(super) fn without_body(mut self, end: bool) -> Self {
        self.send_done = end;
        self
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: Code) {
        self.link.borrow_mut().state.reset(self.slot, code);
    }

    /// Client role: marks the connection as suspect after a response timeout. If nothing at all has been received since
    /// the request, the peer may be gone: no further streams are opened on the connection.
    pub fn mark_suspect(&mut self) {
        let mut link = self.link.borrow_mut();
        if link.received == self.received {
            link.state.peer_leaves = true;
        }
    }

    /// Waits until the peer resets the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut link = self.link.borrow_mut();
        let Some(stream) = link.state.streams.get_mut(self.slot) else { return Poll::Ready(()) };
        if stream.error.is_some() {
            return Poll::Ready(());
        }
        stream.register(cx);
        Poll::Pending
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        self.link.borrow_mut().state.release(self.slot, self.current.len());
    }
}
