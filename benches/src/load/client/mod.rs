//! The clients: one per connection, of the type required by the kind of load.

mod h1;
mod h2;
mod pong;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use self::h1::H1;
use self::h2::H2;
use self::pong::Pong;
use super::counts::{Counts, count};
use super::link::{Buffers, Link, LinkError};
use super::pace::{Due, Pace};
use super::plan::Plan;
use super::work::Kind;

/// State shared by all clients, borrowed by the client that is being processed.
#[derive(Debug)]
pub(super) struct ClientContext<'a> {
    pub(super) epoll: &'a OwnedFd,
    pub(super) plan: &'a Plan,
    pub(super) proxy: SocketAddr,
    pub(super) pace: &'a mut Pace,
    pub(super) counts: &'a Counts,
    /// The last error.
    pub(super) wrong: &'a mut LinkError,
}

impl ClientContext<'_> {
    /// Counts an error.
    fn failed(&mut self, what: LinkError) {
        *self.wrong = what;
        count(&self.counts.errors, 1);
    }

    /// Opens a connection for requests to this target.
    fn open(&self, token: u64, target: usize) -> Result<Link> {
        let name = self.plan.target(target).map(|target| &target.name);
        Link::open(self.proxy, token, self.plan.tls.as_ref().zip(name))
    }

    /// Counts bytes of bodies.
    fn passed(&self, bytes: u64) {
        count(&self.counts.bytes, bytes);
    }
}

#[derive(Debug)]
pub(super) enum Client {
    H1(H1),
    H2(H2),
    Pong(Pong),
}

impl Client {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        match plan.kind {
            Kind::Tcp | Kind::WebSocket => Self::Pong(Pong::new(token, plan)),
            Kind::H1 | Kind::H1Tls | Kind::H1Fresh | Kind::TlsFull => Self::H1(H1::new(token, plan)),
            Kind::H2 | Kind::H2Tls | Kind::Grpc => Self::H2(H2::new(token, plan)),
        }
    }

    /// Opens the connection, if it is kept alive, and starts the first requests.
    pub(super) fn begin(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        match self {
            Self::H1(client) => client.begin(context),
            Self::H2(client) => client.begin(context),
            Self::Pong(client) => client.begin(context),
        }
    }

    /// Whether the client does not wait for its connection to be opened.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::H1(client) => client.is_settled(),
            Self::H2(client) => client.is_settled(),
            Self::Pong(client) => client.is_settled(),
        }
    }

    /// Sends a request.
    pub(super) fn start(&mut self, due: Due, context: &ClientContext<'_>) -> Result<()> {
        match self {
            Self::H1(client) => client.start(due, context),
            Self::H2(client) => client.start(due, context),
            Self::Pong(client) => client.start(due, context),
        }
    }

    /// Reads and writes without blocking, for a limited time.
    pub(super) fn ready(
        &mut self,
        flags: EventFlags,
        context: &mut ClientContext<'_>,
        buffers: &mut Buffers,
    ) -> Result<()> {
        match self {
            Self::H1(client) => client.ready(flags, context, buffers),
            Self::H2(client) => client.ready(flags, context, buffers),
            Self::Pong(client) => client.ready(flags, context, buffers),
        }
    }
}
