//! [`Flow`]: the session state shared by the session's task and the task of the downstream socket.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, ErrorKind};
use std::task::{Context, Waker};

use tokio::net::UdpSocket;

/// Maximum number of datagrams queued while a session connects.
const WAITING_MAX: usize = 16;

/// Maximum size of the queued datagrams, bytes.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// The state of a session that its own task and the task of the downstream socket share.
#[derive(Default)]
pub(super) struct Flow {
    /// The upstream socket, once connected.
    upstream: OnceCell<UdpSocket>,
    /// Datagrams received before that.
    waiting: RefCell<Waiting>,
    /// Bytes received from the client.
    pub(super) received: Cell<u64>,
    /// Bytes sent to the upstream.
    pub(super) forwarded: Cell<u64>,
    pub(super) dropped: Cell<u64>,
    /// The error of sending to the upstream.
    pub(super) error: RefCell<Option<io::Error>>,
    /// The idle timeout has expired.
    pub(super) over: Cell<bool>,
    /// The waker of the session's task.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Waiting {
    datagrams: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Flow {
    /// Sends a datagram of the client to the upstream, or queues it while the session connects.
    pub(super) fn pass(&self, data: &[u8]) {
        add(&self.received, data.len());
        match self.upstream.get() {
            Some(upstream) => self.send(upstream, data),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                if waiting.datagrams.len() < WAITING_MAX && waiting.bytes + data.len() <= WAITING_BYTES_MAX {
                    waiting.bytes += data.len();
                    waiting.datagrams.push(data.into());
                } else {
                    add(&self.dropped, 1);
                }
            }
        }
    }

    /// Sends the queued datagrams; later ones are sent directly.
    pub(super) fn connected(&self, upstream: UdpSocket) -> &UdpSocket {
        let upstream = self.upstream.get_or_init(|| upstream);
        for datagram in self.waiting.take().datagrams {
            self.send(upstream, &datagram);
        }
        upstream
    }

    fn send(&self, upstream: &UdpSocket, data: &[u8]) {
        match upstream.try_send(data) {
            Ok(count) => add(&self.forwarded, count),
            Err(error) => {
                add(&self.dropped, 1);
                if is_gone(&error) {
                    *self.error.borrow_mut() = Some(error);
                    self.wake();
                }
            }
        }
    }

    /// Registers the session's task to be woken on changes.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Wakes the session's task.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Whether an error means that the upstream is unreachable. Other errors affect a single datagram, which is lost: the
/// send buffer is full, the datagram is too long for the path, or sending is forbidden.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NotConnected
    )
}

pub(super) fn add(counter: &Cell<u64>, count: impl TryInto<u64>) {
    counter.set(counter.get().saturating_add(count.try_into().unwrap_or(u64::MAX)));
}
