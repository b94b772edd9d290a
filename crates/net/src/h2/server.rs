//! A client's connection.

use std::task::{Context, Poll};

use cardinal_http::RequestHead;

use super::driver::{Link, Shared};
use super::error::H2Error;
use super::state::{Accepted, Leaving, Role, Settings, State};
use super::stream::H2;
use crate::buffer::{self, Buffer};
use crate::io::Io;

/// A client's connection. Whoever polls it drives it. Dropping it ends its streams.
pub struct Server {
    link: Shared,
}

/// A request that a client has made.
#[derive(Debug)]
pub struct Request {
    /// Its stream.
    pub stream: H2,
    /// Its head. [`H2::give_head`] takes it, or another one, back.
    pub head: RequestHead,
    /// No body follows.
    pub ended: bool,
    /// The head is longer than allowed, and not all here.
    pub oversized: bool,
    /// The head has no place in HTTP/1 terms.
    pub unreadable: bool,
}

impl Server {
    /// Serves a connection of which `input` was read already: nothing, or the preface and what follows.
    pub fn new(io: Io, input: Buffer, settings: Settings) -> Self {
        let state = State::new(Role::Server, settings, buffer::take_output());
        Self { link: Link::shared(io, input, state) }
    }

    /// Waits until the client has introduced itself (RFC 9113 section 3.4).
    pub fn poll_introduced(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<Result<(), H2Error>> {
        let mut link = self.link.borrow_mut();
        if !link.state.is_introduced() {
            link.turn(cx, now_ms);
        }
        match link.state.dead {
            Some(error) => Poll::Ready(Err(error)),
            None if link.state.is_introduced() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    /// Drives the connection until a request comes. `None` when it has ended as [`Server::start_graceful_shutdown`] wanted it.
    pub fn poll_accept(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<Option<Result<Request, H2Error>>> {
        if let Some(request) = self.next() {
            return Poll::Ready(Some(Ok(request)));
        }
        self.link.borrow_mut().turn(cx, now_ms);
        if let Some(request) = self.next() {
            return Poll::Ready(Some(Ok(request)));
        }
        let link = self.link.borrow();
        match link.state.dead {
            Some(error) => Poll::Ready(Some(Err(error))),
            None if link.state.leaving == Leaving::Final && link.state.streams.used_count() == 0 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// After [`Server::poll_close`]: reads and drops up to `left` bytes that the client still sends.
    pub fn poll_discard(&self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        self.link.borrow_mut().poll_discard(cx, left)
    }

    /// Sends what is left and closes. To be polled to its end once nothing more is accepted.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.borrow_mut().poll_close(cx)
    }

    fn next(&self) -> Option<Request> {
        let accepted = self.link.borrow_mut().state.accepted.pop_front();
        let Accepted { slot, head, facts } = accepted?;
        let ended = self
            .link
            .borrow()
            .state
            .streams
            .get(slot)
            .is_some_and(|stream| stream.receive_done && stream.body.is_empty());
        let (oversized, unreadable) = (facts.oversized, facts.unreadable);
        Some(Request { stream: H2::new(&self.link, slot), head, ended, oversized, unreadable })
    }

    /// Streams that are served.
    pub fn streams(&self) -> usize {
        self.link.borrow().state.streams.used_count()
    }

    /// Begins to end the connection in order.
    pub fn start_graceful_shutdown(&self) {
        self.link.borrow_mut().state.start_graceful_shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.link.borrow_mut().state.fail(H2Error::Lost(std::io::ErrorKind::ConnectionAborted));
    }
}
