//! The upstream: accepts connections and answers on them.

mod h1;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, EventData, EventFlags};

use self::h1::{Answers, H1};
use super::link::{Buffers, Link};
use super::work::Work;
use super::{LISTENER, UPSTREAM};

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP/1.1, and WebSockets that send messages back.
    Http1,
}

#[derive(Debug)]
pub(super) struct Upstream {
    listener: TcpListener,
    speech: Speech,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    answers: Answers,
}

#[derive(Debug)]
struct Place {
    link: Link,
    connection: Connection,
}

#[derive(Debug)]
enum Connection {
    H1(H1),
}

/// The connection is over: the proxy closed it, which it may do at any time, or wrote what is not to be answered. What
/// was lost by that shows at the client.
#[derive(Debug)]
struct Closed;

impl From<&'static str> for Closed {
    fn from(_: &'static str) -> Self {
        Self
    }
}

impl Upstream {
    /// Listens on a free port of the loopback address.
    pub(super) fn bind(epoll: &OwnedFd, work: &Work, speech: Speech) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for the upstream")?;
        listener.set_nonblocking(true)?;
        epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { listener, speech, places: Vec::new(), free: Vec::new(), answers: Answers::new(work) })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the upstream has no address")
    }

    /// Accepts what waits.
    pub(super) fn accept(&mut self, epoll: &OwnedFd) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the upstream cannot accept"),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
            let mut link = Link::accepted(stream, UPSTREAM + slot as u64)?;
            link.watch(epoll, true, false)?;
            let connection = match self.speech {
                Speech::Http1 => Connection::H1(H1::default()),
            };
            if let Some(place) = self.places.get_mut(slot) {
                *place = Some(Place { link, connection });
            }
        }
    }

    /// Reads and writes on a connection; the number of requests that were answered.
    pub(super) fn ready(&mut self, epoll: &OwnedFd, slot: u64, flags: EventFlags, buffers: &mut Buffers) -> u64 {
        let slot = slot as usize;
        let Some(place) = self.places.get_mut(slot) else { return 0 };
        let Some(Place { link, connection }) = place else { return 0 };
        link.event(flags);
        let outcome = match connection {
            Connection::H1(h1) => h1.ready(link, &self.answers, buffers, epoll),
        };
        outcome.unwrap_or_else(|Closed| {
            *place = None;
            self.free.push(slot);
            0
        })
    }
}
