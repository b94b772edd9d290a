//! A connection to an upstream.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::driver::{Link, Shared};
use super::error::H2Error;
use super::head::{FieldWriter, Target};
use super::state::{Role, Settings, State};
use super::stream::H2;
use crate::NetError;
use crate::buffer::{self, Buffer};
use crate::io::Io;

/// Maximum number of tasks that wait for a free stream.
const OPENERS_MAX: usize = 1024;

/// A handle for opening streams. Clones use the same connection, which ends when the last handle and the last stream
/// have been dropped.
#[derive(Clone)]
pub struct Client {
    link: Shared,
}

/// Drives a connection to an upstream. Dropping it ends the streams.
pub struct ClientDriver {
    link: Shared,
}

/// Creates an HTTP/2 connection to an upstream; the driver has to be polled by a task of its own.
pub fn client(io: Io, settings: Settings) -> (Client, ClientDriver) {
    let state = State::new(Role::Client, settings, buffer::take_output());
    let link = Link::shared(io, Buffer::default(), state);
    (Client { link: Rc::clone(&link) }, ClientDriver { link })
}

impl Client {
    /// Whether streams may be opened, now or later.
    pub fn is_usable(&self) -> bool {
        self.link.borrow().state.refusal().is_none()
    }

    /// Maximum number of concurrent streams allowed by the upstream.
    pub fn streams_max(&self) -> usize {
        self.link.borrow().state.peer_streams_max as usize
    }

    /// Maximum number of streams that can be open now: without waiting for the upstream's SETTINGS.
    pub(super) fn open_streams_max(&self) -> usize {
        let state = &self.link.borrow().state;
        if state.is_introduced() { state.peer_streams_max as usize } else { 1 }
    }

    /// Waits until another stream can be opened.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), NetError>> {
        let max = self.open_streams_max();
        let state = &mut self.link.borrow_mut().state;
        if let Some(error) = state.refusal() {
            return Poll::Ready(Err(NetError::H2(error)));
        }
        if state.streams.open_count() < max {
            return Poll::Ready(Ok(()));
        }
        if !state.openers.iter().any(|waker| waker.will_wake(cx.waker())) {
            if state.openers.len() >= OPENERS_MAX {
                // All waiting tasks are woken: those still interested register again.
                state.openers.drain(..).for_each(std::task::Waker::wake);
            }
            state.openers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Opens a stream; `end` means that no body follows. `fields` adds the header fields.
    pub fn open(
        &self,
        target: &Target<'_>,
        end: bool,
        fields: impl FnOnce(&mut FieldWriter<'_>),
    ) -> Result<H2, NetError> {
        let slot = self.link.borrow_mut().state.send_request(target, end, fields)?;
        Ok(H2::new(&self.link, slot).without_body(end))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // This may have been the last handle.
        self.link.borrow_mut().state.wake_driver();
    }
}

impl ClientDriver {
    /// Drives the connection until an error, or until the last handle is dropped. `now_ms` may have any origin.
    pub fn poll(&self, cx: &mut Context<'_>, now_ms: u64) -> Poll<Result<(), H2Error>> {
        let mut link = self.link.borrow_mut();
        link.drive(cx, now_ms);
        if let Some(error) = link.state.dead {
            std::task::ready!(link.poll_close(cx));
            return Poll::Ready(Err(error));
        }
        // No other handle exists, or the upstream has sent GOAWAY and the last stream has ended.
        let over =
            Rc::strong_count(&self.link) == 1 || (link.state.peer_leaves && link.state.streams.used_count() == 0);
        if over && link.poll_close(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Drop for ClientDriver {
    fn drop(&mut self) {
        self.link.borrow_mut().state.fail(H2Error::Lost(std::io::ErrorKind::ConnectionAborted));
    }
}
