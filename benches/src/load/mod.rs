//! The load: clients and the upstream in one epoll loop of one thread, so that both together cost less than any proxy
//! does. Protocols are spoken by hand, and only as far as proxies need it.
//!
//! [`Work`] says what is done. [`Load::new`] opens the upstream, [`Load::connect`] makes the clients, [`Load::run`]
//! serves until [`Counts::stop`], which another thread calls; it reads the counters before that. After
//! [`Load::disconnect`] other clients can be made. Requests that are under way when a run ends go on in the next one,
//! but their latencies are not taken.
//!
//! Without a rate each client sends a request when it has its answer. With one, a request is sent when it is due and a
//! client is free, and its latency counts from when it was due: a proxy that stalls is not asked fewer questions.
//! Connections are opened a few dozens at a time, while the loop runs.
//!
//! Every answer is checked: its status, its length, and what else its kind of load has to be (gRPC: the status in the
//! trailers; messages: each byte).

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

use self::client::{Client, Turn};
pub(crate) use self::counts::Counts;
use self::counts::count;
pub(crate) use self::latency::Latencies;
use self::link::{Broken, Buffers};
use self::pace::Pace;
use self::plan::Plan;
use self::upstream::{Speech, Upstream};
pub(crate) use self::work::{Direction, HOSTS, Kind, PATHS, Work, request};

/// Errors after which a run is given up.
const ERRORS_MAX: u64 = 1000;
/// How often a loop without clients looks whether it is to stop when nothing happens.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// A loop with clients never sleeps: on loopback the proxy would pay for waking it, with an interrupt of another core at
/// each write, which behind a network card it does not.
const SPIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Events taken at once.
const EVENTS: usize = 512;
/// Connections that are being opened at the same time, so that they fit into a proxy's queue.
const OPENING: usize = 64;
/// Requests of a rate that are sent before events are looked at again.
const DUE_AT_ONCE: usize = 64;
/// Files that are open for other things than clients and upstream connections.
const OTHER_FILES: u64 = 64;
/// The token of the upstream's listener. Clients have their place, upstream connections theirs after `UPSTREAM`.
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
    /// Clients before this one have begun.
    begun: usize,
    proxy: Option<SocketAddr>,
    buffers: Buffers,
    wrong: Broken,
}

impl Load {
    /// The upstream of this work, without clients.
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

    /// Where the upstream listens.
    pub(crate) fn upstream(&self) -> Result<SocketAddr> {
        self.upstream.address()
    }

    /// Makes the clients. They begin with the next run.
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

    /// Serves until [`Counts::stop`]. Fails after too many errors.
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

    /// Lets clients begin, if not too many others wait for their connections.
    fn open(&mut self, counts: &Counts) -> Result<()> {
        let waits = |clients: &[Client], at: usize| clients.get(at).is_some_and(|client| !client.is_settled());
        while self.begun < self.clients.len() && !(self.begun >= OPENING && waits(&self.clients, self.begun - OPENING))
        {
            let token = self.begun as u64;
            self.begun += 1;
            self.with_client(token, counts, |client, turn, _| client.begin(turn))?;
        }
        Ok(())
    }

    /// Sends requests whose time has come.
    fn start_due(&mut self, counts: &Counts) -> Result<()> {
        for _request in 0..DUE_AT_ONCE {
            let Some((token, due)) = self.pace.due() else { break };
            self.with_client(token, counts, |client, turn, _| client.start(due, turn))?;
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
        self.with_client(token, counts, |client, turn, buffers| client.ready(flags, turn, buffers))
    }

    fn with_client(
        &mut self,
        token: u64,
        counts: &Counts,
        act: impl FnOnce(&mut Client, &mut Turn<'_>, &mut Buffers) -> Result<()>,
    ) -> Result<()> {
        let (Some(client), Some(proxy)) = (self.clients.get_mut(token as usize), self.proxy) else { return Ok(()) };
        let mut turn =
            Turn { epoll: &self.epoll, plan: &self.plan, proxy, pace: &mut self.pace, counts, wrong: &mut self.wrong };
        act(client, &mut turn, &mut self.buffers)
    }
}

/// Makes sure that so many files can be open.
fn allow_files(files: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|most| most >= files) {
        return Ok(());
    }
    ensure!(now.maximum.is_none_or(|most| most >= files), "{files} files are needed, {:?} are allowed", now.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
        .context("cannot raise the limit of open files")
}
