//! The upstream: accepts connections and responds on them.

mod echo;
mod h1;
mod h2;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, EventData, EventFlags};

use self::echo::Echo;
use self::h1::H1;
use self::h2::H2;
use super::link::{Buffers, Link};
use super::work::Work;
use super::{LISTENER, UPSTREAM};

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP/1.1; with WebSockets that echo messages, if the load requires them.
    Http1,
    /// Echoes bytes.
    Echo,
    /// gRPC over HTTP/2 without TLS.
    Grpc,
    /// HTTP/2 without TLS, for clients without a proxy.
    #[allow(dead_code, reason = "only tests do without a proxy")]
    Http2,
}

/// The response to a WebSocket handshake.
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[derive(Debug)]
pub(super) struct Upstream {
    listener: TcpListener,
    speech: Speech,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    answers: Answers,
}

/// The prepared responses.
#[derive(Debug)]
struct Answers {
    h1: h1::Answers,
    h2: h2::Answers,
    /// Size of a message.
    message: u64,
}

#[derive(Debug)]
struct Place {
    link: Link,
    connection: Connection,
}

#[derive(Debug)]
enum Connection {
    H1(H1),
    H2(H2),
    Echo(Echo),
}

/// The connection has ended: the proxy closed it, which it may do at any time, or sent an invalid request. The
/// resulting loss is detected by the client.
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
        Ok(Self {
            listener,
            speech,
            places: Vec::new(),
            free: Vec::new(),
            answers: Answers {
                h1: h1::Answers::new(work),
                h2: h2::Answers::new(work, speech == Speech::Grpc),
                message: work.body as u64,
            },
        })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the upstream has no address")
    }

    /// Accepts waiting connections.
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
                Speech::Grpc | Speech::Http2 => Connection::H2(H2::new()),
                Speech::Echo => Connection::Echo(Echo::default()),
            };
            if let Some(place) = self.places.get_mut(slot) {
                *place = Some(Place { link, connection });
            }
        }
    }

    /// Reads and writes on a connection; returns the number of requests that were responded to.
    pub(super) fn ready(&mut self, epoll: &OwnedFd, slot: u64, flags: EventFlags, buffers: &mut Buffers) -> u64 {
        let slot = slot as usize;
        let Some(place) = self.places.get_mut(slot) else { return 0 };
        let Some(found) = place else { return 0 };
        found.link.event(flags);
        let outcome = found.ready(epoll, &self.answers, buffers);
        outcome.unwrap_or_else(|Closed| {
            *place = None;
            self.free.push(slot);
            0
        })
    }
}

impl Place {
    fn ready(&mut self, epoll: &OwnedFd, answers: &Answers, buffers: &mut Buffers) -> Result<u64, Closed> {
        let Self { link, connection } = self;
        match connection {
            Connection::H1(h1) => {
                let answered = h1.ready(link, &answers.h1, buffers, epoll)?;
                if h1.upgraded() {
                    let mut echo = Echo::websocket(UPGRADED.as_bytes().to_vec());
                    echo.write(link)?;
                    *connection = Connection::Echo(echo);
                }
                Ok(answered)
            }
            Connection::H2(h2) => h2.ready(link, &answers.h2, buffers, epoll),
            Connection::Echo(echo) => echo.ready(link, answers.message, buffers, epoll),
        }
    }
}
