//! Kept-alive connections to upstreams, one pool per worker: no locks, no sharing between threads.

mod classes;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_base::{SharedLimit, Tick, descriptors};
use foldhash::HashMap;
use tokio::sync::Notify;

pub use classes::Class;

use classes::Classes;

use crate::h1::H1;
use crate::h2::Client;

/// The key of interchangeable connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The endpoint.
    pub address: SocketAddr,
    /// TLS settings, server name and protocol, as numbered by [`Pool::class`].
    pub class: Class,
}

/// Limits of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of idle connections per key; 0 keeps none.
    pub idle_max: usize,
    /// Maximum number of requests per connection; 0 is unlimited.
    pub requests_max: u32,
    /// Idle timeout, milliseconds.
    pub idle_timeout_ms: u64,
    /// Maximum number of classes: combinations of TLS settings and server name.
    pub classes_max: usize,
}

/// Maximum number of HTTP/2 connections to one endpoint.
const H2_CONNECTIONS_MAX: usize = 16;

/// Number of streams on one HTTP/2 connection before another connection is opened.
pub const H2_STREAMS_MAX: usize = 100;

/// An HTTP/1 connection with its request count.
#[derive(Debug)]
pub struct Pooled {
    /// The connection.
    pub h1: Box<H1>,
    /// Number of requests served.
    pub requests: u32,
    since: Tick,
}

/// An HTTP/2 connection.
pub struct H2Connection {
    client: Client,
    /// Number of open streams.
    streams: Rc<Cell<usize>>,
    requests: u32,
    idle_since: Rc<Cell<Tick>>,
    /// The limit for which the connection counts.
    limit: Option<Arc<SharedLimit>>,
}

/// An HTTP/2 connection that is being opened, for requests that can wait for it.
#[derive(Debug, Default)]
pub struct Opening {
    waiting: Cell<usize>,
    over: Cell<bool>,
    made: Cell<bool>,
    told: Notify,
}

impl Opening {
    /// Waits until the connection is open; `false` if opening failed.
    pub async fn wait(&self) -> bool {
        let told = self.told.notified();
        if !self.over.get() {
            told.await;
        }
        self.made.get()
    }
}

/// Held while an HTTP/2 connection is opened; dropping it wakes the waiters.
#[derive(Debug)]
pub struct OpeningGuard(Rc<Opening>);

impl OpeningGuard {
    /// The connection is open and in the pool.
    pub fn made(self) {
        self.0.made.set(true);
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        self.0.over.set(true);
        self.0.told.notify_waiters();
    }
}

/// The permit of an open stream on its connection; released when dropped.
pub struct StreamGuard {
    streams: Rc<Cell<usize>>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
    }
}

/// The connections of one worker.
#[derive(Default)]
pub struct Pool {
    /// Clear-text connections, which have no server name, by settings number.
    clear: [Connections; classes::FIXED as usize],
    named: Classes<Connections>,
    evicted: u64,
}

/// Connections of one class.
#[derive(Default)]
struct Connections {
    h1: HashMap<SocketAddr, Vec<Pooled>>,
    h2: HashMap<SocketAddr, Vec<H2Connection>>,
    opening: HashMap<SocketAddr, Vec<Rc<Opening>>>,
}

impl Pool {
    /// The class of a kind of connection: `settings` identifies TLS settings and protocol, `server_name` is empty
    /// without TLS. If the number of classes exceeds the limit, the least recently used class is evicted: its idle
    /// connections are closed, those in use end with their requests.
    pub fn class(&mut self, settings: u64, server_name: &str, limits: &Limits) -> Class {
        // Clear text needs no server name: its settings numbers are below those assigned to TLS.
        if server_name.is_empty()
            && let Some(class) = Class::fixed(settings)
        {
            return class;
        }
        let (class, evicted) = self.named.class(settings, server_name, limits.classes_max);
        if let Some(evicted) = evicted {
            self.evicted += 1;
            evicted.close();
        }
        class
    }

    /// Total number of evicted classes.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// `None` if the class was evicted.
    fn connections(&mut self, class: Class) -> Option<&mut Connections> {
        match class.fixed_place() {
            Some(place) => self.clear.get_mut(place),
            None => self.named.get_mut(class),
        }
    }

    /// Takes the most recently used idle HTTP/1 connection that is still open.
    pub fn take(&mut self, key: &PoolKey, limits: &Limits, now: Tick) -> Option<Pooled> {
        let idle = self.connections(key.class)?.h1.get_mut(&key.address)?;
        while let Some(mut pooled) = idle.pop() {
            let fresh = now.millis_since(pooled.since) < limits.idle_timeout_ms;
            if fresh && pooled.h1.io().is_silent() {
                return Some(pooled);
            }
            close(pooled.h1);
        }
        None
    }

    /// Keeps a connection after `requests` requests, if the limits allow it.
    pub fn put(&mut self, key: PoolKey, mut h1: Box<H1>, requests: u32, limits: &Limits, now: Tick) {
        let is_worn = limits.requests_max != 0 && requests >= limits.requests_max;
        let is_scarce = h1.io().tcp().is_some_and(descriptors::is_scarce);
        let kept = self.connections(key.class).filter(|_| !is_worn && !is_scarce);
        let Some(connections) = kept else { return close(h1) };
        let idle = connections.h1.entry(key.address).or_default();
        if idle.len() >= limits.idle_max {
            return close(h1);
        }
        h1.rest();
        idle.push(Pooled { h1, requests, since: now });
    }

    /// Takes a stream permit on an open HTTP/2 connection. With `crowded`, also on a connection that has reached its
    /// intended number of streams, because no other connection can be opened.
    pub fn take_h2(&mut self, key: &PoolKey, limits: &Limits, crowded: bool) -> Option<(Client, StreamGuard)> {
        let open = self.connections(key.class)?.h2.get_mut(&key.address)?;
        // A connection that received GOAWAY accepts no more streams, though its driver runs until the last one has
        // ended. A connection that has reached its request limit ends with its last stream.
        let worn = |c: &H2Connection| limits.requests_max != 0 && c.requests >= limits.requests_max;
        open.retain(|c| c.client.is_usable() && !worn(c));
        let full = crowded || open.len() >= H2_CONNECTIONS_MAX;
        let usable = |c: &&mut H2Connection| full || c.streams.get() < c.client.streams_max().min(H2_STREAMS_MAX);
        let connection = open.iter_mut().filter(usable).min_by_key(|c| c.streams.get())?;
        connection.requests += 1;
        connection.streams.set(connection.streams.get() + 1);
        Some((connection.client.clone(), StreamGuard { streams: Rc::clone(&connection.streams) }))
    }

    /// An HTTP/2 connection being opened that will have a free stream: waiting for it saves a connection. If the
    /// endpoint has turned out to use HTTP/1, requests do not wait.
    pub fn join_opening(&mut self, key: &PoolKey) -> Option<Rc<Opening>> {
        let connections = self.connections(key.class)?;
        if connections.h1.contains_key(&key.address) {
            return None;
        }
        let opening = connections.opening.get_mut(&key.address)?;
        opening.retain(|o| !o.over.get());
        let found = opening.iter().find(|o| o.waiting.get() + 1 < H2_STREAMS_MAX)?;
        found.waiting.set(found.waiting.get() + 1);
        Some(Rc::clone(found))
    }

    /// Marks an HTTP/2 connection as being opened until the guard is dropped.
    pub fn start_opening(&mut self, key: PoolKey) -> OpeningGuard {
        let opening = Rc::new(Opening::default());
        if let Some(connections) = self.connections(key.class) {
            connections.opening.entry(key.address).or_default().push(Rc::clone(&opening));
        }
        OpeningGuard(opening)
    }

    /// Keeps a new HTTP/2 connection, and takes the permit of its first stream. `limit` is the limit for which the
    /// connection counts.
    pub fn put_h2(&mut self, key: PoolKey, client: Client, limit: Option<Arc<SharedLimit>>, now: Tick) -> StreamGuard {
        let streams = Rc::new(Cell::new(1));
        let guard = StreamGuard { streams: Rc::clone(&streams) };
        let idle_since = Rc::new(Cell::new(now));
        // If the class was evicted meanwhile, the connection serves this stream only.
        if let Some(connections) = self.connections(key.class) {
            let connection = H2Connection { client, streams, requests: 1, idle_since, limit };
            connections.h2.entry(key.address).or_default().push(connection);
        }
        guard
    }

    /// Drops expired idle connections, and classes above a lowered limit. To be called about once per second.
    pub fn sweep(&mut self, limits: &Limits, now: Tick) {
        while self.named.len() > limits.classes_max.max(1) {
            let Some(evicted) = self.named.evict() else { break };
            self.evicted += 1;
            evicted.close();
        }
        for connections in self.clear.iter_mut().chain(self.named.values_mut()) {
            connections.sweep(limits, now);
        }
    }

    /// Closes all idle connections to free descriptors; `false` if there are none.
    pub fn close_idle(&mut self) -> bool {
        let before = self.counts();
        self.clear.iter_mut().chain(self.named.values_mut()).for_each(Connections::close_idle);
        self.counts() != before
    }

    /// Closes one idle connection that counts for this limit; `false` if there is none.
    pub fn close_one(&mut self, limit: &Arc<SharedLimit>) -> bool {
        self.clear.iter_mut().chain(self.named.values_mut()).any(|connections| connections.close_one(limit))
    }

    /// Closes idle connections whose permits are waited for, as many as needed.
    pub fn close_wanted(&mut self) {
        for connections in self.clear.iter_mut().chain(self.named.values_mut()) {
            connections.close_wanted();
        }
    }

    /// Numbers of idle HTTP/1 connections and of open HTTP/2 connections.
    pub fn counts(&self) -> (usize, usize) {
        let counts = self.clear.iter().chain(self.named.values()).map(Connections::counts);
        counts.fold((0, 0), |(h1, h2), (more_h1, more_h2)| (h1 + more_h1, h2 + more_h2))
    }
}

impl Connections {
    fn sweep(&mut self, limits: &Limits, now: Tick) {
        self.h1.retain(|_, idle| {
            let is_over = |pooled: &mut Pooled| {
                now.millis_since(pooled.since) >= limits.idle_timeout_ms || !pooled.h1.io().is_silent()
            };
            idle.extract_if(.., |pooled| is_over(pooled)).for_each(|pooled| close(pooled.h1));
            !idle.is_empty()
        });
        self.h2.retain(|_, open| {
            open.retain(|c| {
                if c.streams.get() > 0 {
                    c.idle_since.set(now);
                }
                c.client.is_usable() && now.millis_since(c.idle_since.get()) < limits.idle_timeout_ms
            });
            !open.is_empty()
        });
        self.opening.retain(|_, opening| {
            opening.retain(|o| !o.over.get());
            !opening.is_empty()
        });
    }

    fn close_idle(&mut self) {
        self.h1.drain().flat_map(|(_, idle)| idle).for_each(|pooled| close(pooled.h1));
        self.h2.retain(|_, open| {
            open.retain(|connection| connection.streams.get() > 0);
            !open.is_empty()
        });
    }

    fn close_one(&mut self, limit: &Arc<SharedLimit>) -> bool {
        for idle in self.h1.values_mut() {
            // The first one is the least recently used.
            if let Some(at) = idle.iter().position(|pooled| counts_for(&pooled.h1, |of| Arc::ptr_eq(of, limit))) {
                close(idle.remove(at).h1);
                return true;
            }
        }
        for open in self.h2.values_mut() {
            let is_idle =
                |c: &H2Connection| c.streams.get() == 0 && c.limit.as_ref().is_some_and(|of| Arc::ptr_eq(of, limit));
            if let Some(at) = open.iter().position(is_idle) {
                // The connection ends when the last handle is dropped.
                open.remove(at);
                return true;
            }
        }
        false
    }

    fn close_wanted(&mut self) {
        for idle in self.h1.values_mut() {
            let wanted = |pooled: &mut Pooled| counts_for(&pooled.h1, |limit| limit.is_short());
            for pooled in idle.extract_if(.., wanted) {
                close(pooled.h1);
            }
        }
        for open in self.h2.values_mut() {
            open.retain(|c| c.streams.get() > 0 || !c.limit.as_ref().is_some_and(|limit| limit.is_short()));
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.h1.values().map(Vec::len).sum(), self.h2.values().map(Vec::len).sum())
    }

    /// Closes idle connections. HTTP/2 connections shut down gracefully after their last stream.
    fn close(self) {
        self.h1.into_values().flatten().for_each(|pooled| close(pooled.h1));
    }
}

/// Whether the limit for which a connection counts satisfies a condition.
fn counts_for(h1: &H1, is: impl Fn(&Arc<SharedLimit>) -> bool) -> bool {
    h1.permit().is_some_and(|permit| is(permit.seat().limit()))
}

/// Closes an idle connection.
fn close(mut h1: Box<H1>) {
    h1.io().close_idle();
}

/// A pool shared by the tasks of one worker.
pub type SharedPool = Rc<RefCell<Pool>>;

#[cfg(test)]
mod tests;
