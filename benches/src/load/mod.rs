//! The load: clients and the upstream in one epoll loop on one thread, so that both together cost less CPU time than
//! any proxy. Protocols are implemented only as far as needed.
//!
//! [`Work`] describes the load. [`Load::new`] opens the upstream, [`Load::connect`] creates the clients, [`Load::run`]
//! runs until [`Counts::stop`] is called by another thread, which reads the counters before. After
//! [`Load::disconnect`], other clients can be created. Requests in flight when a run ends continue in the next one, but
//! their latencies are not recorded.
//!
//! Without a rate, each client sends a request when it has received the previous response. With a rate, a request is
//! sent when it is due and a client is free, and its latency is measured from the time when it was due: a stalled proxy
//! does not receive fewer requests. Connections are opened a few dozen at a time, while the loop runs.
//!
//! Every response is checked: its status, its length, and further properties of the kind of load (gRPC: the status in
//! the trailers; messages: each byte).

mod chunked;
mod client;
mod counts;
mod h2;
mod head;
mod latency;
mod link;
mod pace;
mod plan;
mod response;
mod tls;
mod upstream;
mod websocket;
mod work;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::client::{Client, ClientContext};
pub(crate) use self::counts::Counts;
use self::counts::count;
pub(crate) use self::latency::Latencies;
use self::link::{Buffers, LinkError};
use self::pace::Pace;
use self::plan::Plan;
use self::upstream::{Speech, Upstream};
pub(crate) use self::work::{Direction, HOSTS, Kind, PATHS, Work, request};

/// Number of errors after which a run is aborted.
const ERRORS_MAX: u64 = 1000;
/// How often a loop without clients checks whether to stop when no events arrive.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// A loop with clients never sleeps: on loopback, the proxy would pay for waking it, with an inter-processor interrupt
/// at each write, which does not happen with a network card.
const SPIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Maximum number of events per call.
const EVENTS: usize = 512;
/// Maximum number of connections being opened at the same time, so that they fit into a proxy's accept queue.
const OPENING: usize = 64;
/// Maximum number of due requests sent before events are polled again.
const DUE_AT_ONCE: usize = 64;
/// Number of open files besides client and upstream connections.
const OTHER_FILES: u64 = 64;
/// The epoll token of the upstream's listener. Clients use their index, upstream connections `UPSTREAM` plus their
/// index.
const LISTENER: u64 = u64::MAX;
const UPSTREAM: u64 = 1 << 32;

/// Clients and upstream.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: OwnedFd,
    upstream: Upstream,
    plan: Plan,
    connections: usize,
    pace: Pace,
    clients: Vec<Client>,
    /// Number of clients that have started.
    begun: usize,
    proxy: Option<SocketAddr>,
    buffers: Buffers,
    wrong: LinkError,
}

impl Load {
    /// The upstream for this load, without clients.
    pub(crate) fn new(work: &Work) -> Result<Self> {
        let speech = match work.kind {
            Kind::Tcp => Speech::Echo,
            Kind::Grpc => Speech::Grpc,
            Kind::H1 | Kind::H1Tls | Kind::H1Fresh | Kind::TlsFull => Speech::Http1,
            Kind::H2 | Kind::H2Tls | Kind::WebSocket => Speech::Http1,
        };
        Self::with_upstream(work, speech)
    }

    fn with_upstream(work: &Work, speech: Speech) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let upstream = Upstream::bind(&epoll, work, speech)?;
        Ok(Self {
            epoll,
            upstream,
            plan: Plan::new(work)?,
            connections: work.connections,
            pace: Pace::new(work.rate),
            clients: Vec::new(),
            begun: 0,
            proxy: None,
            buffers: Buffers::new(),
            wrong: "",
        })
    }

    /// The address of the upstream.
    pub(crate) fn upstream(&self) -> Result<SocketAddr> {
        self.upstream.address()
    }

    /// Creates the clients. They start with the next run.
    pub(crate) fn connect(&mut self, proxy: SocketAddr) -> Result<()> {
        self.disconnect();
        allow_files(2 * self.connections as u64 + OTHER_FILES)?;
        self.proxy = Some(proxy);
        self.clients = (0..self.connections as u64).map(|token| Client::new(token, &self.plan)).collect();
        Ok(())
    }

    /// Closes the clients' connections.
    pub(crate) fn disconnect(&mut self) {
        self.clients.clear();
        self.begun = 0;
        self.proxy = None;
        self.pace.forget_clients();
    }

    /// Runs until [`Counts::stop`]. Fails after too many errors.
    pub(crate) fn run(&mut self, counts: &Counts) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = if self.clients.is_empty() { TICK } else { SPIN };
        self.pace.begin();
        while !counts.stopped() {
            if self.begun < self.clients.len() {
                self.open(counts)?;
            }
            self.start_due(counts)?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            for event in &events {
                self.handle(event.data.u64(), event.flags, counts)?;
            }
            if counts.errors() >= ERRORS_MAX {
                bail!("{ERRORS_MAX} errors, the last one: {}", self.wrong);
            }
        }
        Ok(())
    }

    /// Starts clients, unless too many others wait for their connections.
    fn open(&mut self, counts: &Counts) -> Result<()> {
        let waits = |clients: &[Client], at: usize| clients.get(at).is_some_and(|client| !client.is_settled());
        while self.begun < self.clients.len() && !(self.begun >= OPENING && waits(&self.clients, self.begun - OPENING))
        {
            let token = self.begun as u64;
            self.begun += 1;
            self.with_client(token, counts, |client, context, _| client.begin(context))?;
        }
        Ok(())
    }

    /// Sends the due requests.
    fn start_due(&mut self, counts: &Counts) -> Result<()> {
        for _request in 0..DUE_AT_ONCE {
            let Some((token, due)) = self.pace.due() else { break };
            self.with_client(token, counts, |client, context, _| client.start(due, context))?;
        }
        Ok(())
    }

    fn handle(&mut self, token: u64, flags: EventFlags, counts: &Counts) -> Result<()> {
        if token == LISTENER {
            return self.upstream.accept(&self.epoll);
        }
        if token >= UPSTREAM {
            let answered = self.upstream.ready(&self.epoll, token - UPSTREAM, flags, &mut self.buffers);
            count(&counts.served, answered);
            return Ok(());
        }
        self.with_client(token, counts, |client, context, buffers| client.ready(flags, context, buffers))
    }

    fn with_client(
        &mut self,
        token: u64,
        counts: &Counts,
        act: impl FnOnce(&mut Client, &mut ClientContext<'_>, &mut Buffers) -> Result<()>,
    ) -> Result<()> {
        let (Some(client), Some(proxy)) = (self.clients.get_mut(token as usize), self.proxy) else { return Ok(()) };
        let mut context = ClientContext {
            epoll: &self.epoll,
            plan: &self.plan,
            proxy,
            pace: &mut self.pace,
            counts,
            wrong: &mut self.wrong,
        };
        act(client, &mut context, &mut self.buffers)
    }
}

/// Raises the limit of open files to at least this number.
fn allow_files(files: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|most| most >= files) {
        return Ok(());
    }
    ensure!(now.maximum.is_none_or(|most| most >= files), "{files} files are needed, {:?} are allowed", now.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
        .context("cannot raise the limit of open files")
}
