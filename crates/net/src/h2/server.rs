//! A client's connection.

use std::task::{Context, Poll};

use cardinal_http::RequestHead;

use super::driver::{Link, Shared};
use super::error::H2Error;
use super::state::{Accepted, Leaving, Role, Settings, State};
use super::stream::H2;
use crate::buffer::{self, Buffer};
use crate::io::Io;

/// A client's connection, driven by the task that polls it. Dropping it ends its streams.
pub struct Server {
    link: Shared,
}

/// A request from the client.
#[derive(Debug)]
pub struct Request {
    /// The stream of the request.
    pub stream: H2,
    /// The request head. [`H2::give_head`] returns it, or another head, for reuse.
    pub head: RequestHead,
    /// No body follows.
    pub ended: bool,
    /// The header list exceeds the limit and is incomplete.
    pub oversized: bool,
    /// The head cannot be expressed in HTTP/1 terms.
    pub unreadable: bool,
}

impl Server {
    /// Serves a connection from which `input` was already read: nothing, or the preface and following bytes.
    pub fn new(io: Io, input: Buffer, settings: Settings) -> Self {
        let state = State::new(Role::Server, settings, buffer::take_output());
        Self { link: Link::shared(io, input, state) }
    }

    /// Waits for the client's connection preface (RFC 9113 section 3.4).
    pub fn poll_introduced(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<Result<(), H2Error>> {
        let mut link = self.link.borrow_mut();
        if !link.state.is_introduced() {
            link.drive(cx, now_ms);
        }
        match link.state.dead {
            Some(error) => Poll::Ready(Err(error)),
            None if link.state.is_introduced() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    /// Drives the connection until a request arrives. `None` when it has ended after
    /// [`Server::start_graceful_shutdown`].
    pub fn poll_accept(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<Option<Result<Request, H2Error>>> {
        if let Some(request) = self.next() {
            return Poll::Ready(Some(Ok(request)));
        }
        self.link.borrow_mut().drive(cx, now_ms);
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

    /// To be called after [`Server::poll_close`]: reads and drops up to `left` bytes of further input.
    pub fn poll_discard(&self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        self.link.borrow_mut().poll_discard(cx, left)
    }

    /// Flushes the output and closes the connection. To be polled to completion once no more requests are accepted.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.borrow_mut().poll_close(cx)
    }

    fn next(&self) -> Option<Request> {
        let accepted = self.link.borrow_mut().state.accepted.pop_front();
        let Accepted { slot, head, info } = accepted?;
        let ended = self
            .link
            .borrow()
            .state
            .streams
            .get(slot)
            .is_some_and(|stream| stream.receive_done && stream.body.is_empty());
        let (oversized, unreadable) = (info.oversized, info.unreadable);
        Some(Request { stream: H2::new(&self.link, slot), head, ended, oversized, unreadable })
    }

    /// Number of streams being served.
    pub fn streams(&self) -> usize {
        self.link.borrow().state.streams.used_count()
    }

    /// Starts a graceful shutdown of the connection.
    pub fn start_graceful_shutdown(&self) {
        self.link.borrow_mut().state.start_graceful_shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.link.borrow_mut().state.fail(H2Error::Lost(std::io::ErrorKind::ConnectionAborted));
    }
}
