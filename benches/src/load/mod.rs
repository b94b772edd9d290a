//! The load: clients that send a request as soon as they have the last answer, and the upstream, in one epoll loop of
//! one thread, so that it costs less than any proxy does.

#![allow(dead_code, unused_imports, reason = "scenarios take kinds up one by one")]

mod client;
mod counts;
mod head;
mod latency;
mod response;
mod upstream;
mod work;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use self::client::Client;
pub(crate) use self::counts::Counts;
use self::counts::count;
pub(crate) use self::latency::Latencies;
use self::upstream::Upstream;
pub(crate) use self::work::{CONNECTIONS, Direction, HOSTS, Kind, PATHS, Work, request};

/// Bodies of the upstream's answers to `/gibibyte`.
pub(crate) const GIBIBYTE: u64 = 1 << 30;
/// Errors after which a run is given up.
const ERRORS_MAX: u64 = 1000;
/// How often a loop without clients looks whether it is to stop when nothing happens.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// A loop with clients never sleeps: on loopback the proxy would pay for waking it, with an interrupt of another core at
/// each write, which behind a network card it does not.
const SPIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Events taken at once.
const EVENTS: usize = 512;
/// Bytes read at once.
const READ: usize = 64 * 1024;
/// The token of the upstream's listener. Clients have their place, upstream connections theirs after `UPSTREAM`.
const LISTENER: u64 = u64::MAX;
const UPSTREAM: u64 = 1 << 32;

/// Clients and upstream.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: OwnedFd,
    upstream: Upstream,
    clients: Vec<Client>,
    work: Work,
    buffer: Vec<u8>,
}

impl Load {
    /// The upstream of this work, without clients.
    pub(crate) fn new(work: &Work) -> Result<Self> {
        let known = work.kind == Kind::H1 && work.direction == Direction::Down && work.rate.is_none();
        ensure!(known && work.targets.is_none(), "this load cannot be made: {work:?}");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let upstream = Upstream::bind(&epoll, work.body)?;
        Ok(Self { epoll, upstream, clients: Vec::new(), work: work.clone(), buffer: vec![0; READ] })
    }

    /// Where the upstream listens.
    pub(crate) fn upstream(&self) -> Result<SocketAddr> {
        self.upstream.address()
    }

    /// Opens the clients' connections and sends the first requests.
    pub(crate) fn connect(&mut self, proxy: SocketAddr) -> Result<()> {
        for at in 0..self.work.connections {
            self.clients.push(Client::connect(&self.epoll, at as u64, proxy, &self.work)?);
        }
        Ok(())
    }

    /// Closes the clients' connections.
    pub(crate) fn disconnect(&mut self) {
        self.clients.clear();
    }

    /// Serves until [`Counts::stop`].
    pub(crate) fn run(&mut self, counts: &Counts) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = if self.clients.is_empty() { TICK } else { SPIN };
        while !counts.stopped() {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            for event in &events {
                self.handle(event.data.u64(), counts)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, token: u64, counts: &Counts) -> Result<()> {
        if token == LISTENER {
            return self.upstream.accept(&self.epoll);
        }
        if token >= UPSTREAM {
            for _answered in 0..self.upstream.ready(&self.epoll, token - UPSTREAM, &mut self.buffer) {
                count(&counts.served, 1);
            }
            return Ok(());
        }
        let Some(client) = self.clients.get_mut(token as usize) else { return Ok(()) };
        match client.readable(&self.epoll, &mut self.buffer)? {
            Ok(true) => count(&counts.answered, 1),
            Ok(false) => {}
            Err(what) => {
                count(&counts.errors, 1);
                if counts.errors() >= ERRORS_MAX {
                    bail!("{ERRORS_MAX} errors, the last one: {what}");
                }
            }
        }
        Ok(())
    }
}
