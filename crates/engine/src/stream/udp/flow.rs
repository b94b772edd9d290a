//! [`Flow`]: a session, as its own task and the one of the clients' socket both see it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, ErrorKind};
use std::task::{Context, Waker};

use tokio::net::UdpSocket;

/// Datagrams kept while a session connects.
const WAITING_MAX: usize = 16;

/// Bytes of them.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// A session, as its own task and the socket's both see it.
#[derive(Default)]
pub(super) struct Flow {
    /// To the upstream, once there is one.
    upstream: OnceCell<UdpSocket>,
    /// What came before.
    waiting: RefCell<Waiting>,
    /// Bytes from the client.
    pub(super) received: Cell<u64>,
    /// Bytes to the upstream.
    pub(super) forwarded: Cell<u64>,
    pub(super) dropped: Cell<u64>,
    /// What sending to the upstream met.
    pub(super) error: RefCell<Option<io::Error>>,
    /// It has been silent for too long.
    pub(super) over: Cell<bool>,
    /// Of its task.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Waiting {
    datagrams: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Flow {
    /// Sends a datagram of the client to the upstream, or keeps it until there is one.
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

    /// Sends what was kept, and everything that comes from now on.
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

    /// Has its task woken when something changes.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Lets its task look at what has changed.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Whether an error says that the upstream cannot be reached. Others concern one datagram, which is lost: no room for
/// it now, too long for the way, forbidden.
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
