//! Name resolution with Kong's rules: record order, SRV, hosts file, stale answers, one query at a time for each name.
//!
//! Lookups run on the control runtime. A worker calls [`Dns::cached`] first, which never waits, and awaits
//! [`Dns::resolve`] if there is no cached answer. Groups of endpoints do neither: a [`Dns::watch`] keeps their
//! addresses up to date.
//!
//! The parts: `walk` decides which queries to send (through [`Lookup`]), `cache` decides what to cache, `hosts` reads
//! the hosts file, `watch` notifies of changes, and this file combines them.

mod answer;
mod cache;
mod error;
mod hickory;
mod hosts;
mod walk;
mod watch;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use cardinal_base::{Clock, Tick, descriptors, task, timeout};
use cardinal_ir::Resolver;
use tokio::runtime::Handle;
use tokio::sync::watch as flag;

pub use answer::{Answer, Resolved};
pub use error::{DnsError, DnsSettingsError};
pub use hickory::Wire;
pub use walk::{Data, Found, Kind, Lookup};
pub use watch::{WatchGuard, WatchResult};

use answer::{Record, Records};
use cache::{DnsCache, Good, Step};
use hosts::Hosts;
use walk::{Fetched, Order, Walk};
use watch::{Watch, Watches};

/// Longest host name (RFC 1035), with a trailing dot.
const HOST_BYTES_MAX: usize = 254;
/// Maximum number of concurrent lookups; further ones fail with [`DnsError::Busy`].
const FETCHES_MAX: usize = 1_024;
/// Timeout of resolving one name, including all queries.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between checks of watched names.
const MAINTENANCE_PERIOD: Duration = Duration::from_millis(500);
/// Interval between checks of the hosts file, milliseconds.
const HOSTS_PERIOD_MS: u64 = 5_000;
/// Minimum interval between queries for a watched name, regardless of its TTL, milliseconds.
const WATCH_PERIOD_MIN_MS: u64 = 1_000;
/// Lifetime of addresses and hosts file entries, milliseconds: ten years, as in Kong.
const FOREVER_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;

/// The node's resolver. Clones share all state.
#[derive(Clone, Debug)]
pub struct Dns(Arc<Shared>);

/// The handle on which requests wait for a fetch: it becomes `Some` when the fetch is done.
type Flight = flag::Receiver<Option<Result<Good, DnsError>>>;

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    handle: Handle,
    wire: Box<dyn Lookup>,
    order: Order,
    cache: RwLock<DnsCache<Flight>>,
    hosts_file: Box<str>,
    hosts: ArcSwap<Hosts>,
    /// Modification time and size of the hosts file when it was read.
    hosts_stamp: Mutex<Option<(SystemTime, u64)>>,
    hosts_due_us: AtomicU64,
    watches: Watches,
}

impl Dns {
    /// A resolver that queries DNS servers. Lookups and callbacks run on `handle`; they end with the last clone.
    pub fn new(settings: &Resolver, clock: Arc<dyn Clock>, handle: Handle) -> Result<Self, DnsSettingsError> {
        let wire = Wire::new(&settings.servers)?;
        let dns = Self::with_lookup(settings, clock, handle, Box::new(wire))?;
        dns.start();
        Ok(dns)
    }

    /// A resolver with another [`Lookup`], for tests: there are no background tasks; [`maintain`](Self::maintain) runs
    /// the due work.
    pub fn with_lookup(
        settings: &Resolver,
        clock: Arc<dyn Clock>,
        handle: Handle,
        wire: Box<dyn Lookup>,
    ) -> Result<Self, DnsSettingsError> {
        let shared = Shared {
            order: Order::new(settings)?,
            cache: RwLock::new(DnsCache::new(settings)),
            hosts_file: settings.hosts_file.clone(),
            hosts: ArcSwap::default(),
            hosts_stamp: Mutex::default(),
            hosts_due_us: AtomicU64::new(clock.tick().plus_millis(HOSTS_PERIOD_MS).0),
            watches: Watches::default(),
            clock,
            handle,
            wire,
        };
        shared.read_hosts();
        Ok(Self(Arc::new(shared)))
    }

    /// The addresses of the queried servers, for [`DnsError::reason`].
    pub fn servers(&self) -> Arc<str> {
        self.0.wire.servers()
    }

    /// The addresses of a name if they are available without waiting: a fresh answer, an address literal, a name in the
    /// hosts file.
    ///
    /// Answers with TTL 0 are never fresh. Takes no lock that a lookup holds for long, and only allocates if the name
    /// has upper-case letters.
    pub fn cached(&self, host: &str, port: u16) -> Option<Answer> {
        let host = lower(host);
        let now = self.0.clock.tick();
        let good = match self.0.local(&host, now) {
            Some(good) => good,
            None => self.0.read().peek(&host, now)?,
        };
        Some(answer(good, port))
    }

    /// Resolves a name. Waits if there is no cached answer or its TTL is 0; concurrent requests for a name wait for the
    /// same lookup. An expired answer is served while a new one is fetched.
    ///
    /// May be awaited on any runtime.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Answer, DnsError> {
        if let Some(answer) = self.cached(host, port) {
            return Ok(answer);
        }
        let good = match self.0.ask(&lower(host))? {
            Asked::Known(good) => good,
            Asked::Flying(mut flight) => {
                let landed = flight.wait_for(Option::is_some).await;
                // The sender was dropped without a result: its runtime has shut down.
                let result = landed.ok().and_then(|landed| (*landed).clone());
                result.unwrap_or(Err(DnsError::Unreachable("the resolver has stopped")))?
            }
        };
        Ok(answer(good, port))
    }

    /// Keeps a name up to date. Calls back with its addresses when they are first known, whenever they change, and when
    /// they are lost: a failure has outlived the stale answer.
    ///
    /// The first call may happen before this returns. Calls are made one at a time and must not block. With TTL 0, the
    /// name is queried once per second. A call in progress when the guard is dropped still completes.
    pub fn watch(&self, host: &str, port: u16, callback: impl Fn(&WatchResult) + Send + Sync + 'static) -> WatchGuard {
        let host = lower(host);
        let guard = self.0.watches.add(&host, port, Box::new(callback), self, self.0.clock.tick());
        self.0.look_after(&host);
        guard
    }

    /// Runs the due work: checks watched names and the hosts file. A resolver made by [`new`](Self::new) calls this
    /// itself.
    pub fn maintain(&self) {
        self.0.maintain();
    }

    /// The runtime that lookups run on.
    pub fn runtime(&self) -> &Handle {
        &self.0.handle
    }

    /// The clock for the expiry of answers.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Number of names in the cache, for metrics.
    pub fn names(&self) -> usize {
        self.0.read().len()
    }

    fn start(&self) {
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        let _runtime = self.0.handle.enter();
        task::spawn("dns maintenance", async move {
            while let Some(shared) = shared.upgrade() {
                shared.maintain();
                let pause = shared.clock.sleep(MAINTENANCE_PERIOD);
                drop(shared);
                pause.await;
            }
        });
    }
}

/// The result of a cache lookup.
enum Asked {
    Known(Good),
    Flying(Flight),
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, DnsCache<Flight>> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, DnsCache<Flight>> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for a host that needs no query: an address or a name in the hosts file.
    fn local(&self, host: &str, now: Tick) -> Option<Good> {
        let ip = literal(host).or_else(|| self.hosts.load().get(host, &self.order.families))?;
        Some(Good { records: Records::One(Record::plain(ip)), expires: now.plus_millis(FOREVER_MS) })
    }

    /// Looks up the cache, and starts a fetch if required.
    fn ask(self: &Arc<Self>, host: &str) -> Result<Asked, DnsError> {
        if host.is_empty() || host.len() > HOST_BYTES_MAX {
            return Err(DnsError::Name);
        }
        let mut landing = None;
        let (step, last) = {
            let mut cache = self.write();
            if cache.fetches() >= FETCHES_MAX && !cache.fetching(host) {
                return cache.known(host, self.clock.tick()).unwrap_or(Err(DnsError::Busy)).map(Asked::Known);
            }
            let step = cache.ask(host, self.clock.tick(), || {
                let (sender, flight) = flag::channel(None);
                landing = Some(sender);
                flight
            });
            (step, cache.last_kind(host))
        };
        if let Some(landing) = landing {
            let fetch = Fetch { shared: Arc::clone(self), host: host.into(), landing, done: false };
            let _runtime = self.handle.enter();
            task::spawn("dns lookup", fetch.run(last));
        }
        match step {
            Step::Serve(good) | Step::ServeAndFetch(good, _) => Ok(Asked::Known(good)),
            Step::Fail(error) => Err(error),
            Step::Wait(flight) | Step::Fetch(flight) => Ok(Asked::Flying(flight)),
        }
    }

    /// Fetches a watched name if it is due, and notifies its watches of the current result.
    fn look_after(self: &Arc<Self>, host: &str) {
        if self.local(host, self.clock.tick()).is_none() {
            // The result is reported below, or when the fetch ends.
            let refused = self.ask(host).is_err_and(|error| error == DnsError::Name);
            if refused {
                for watch in self.watches.of(host) {
                    watch.tell(|_| Some((Err(DnsError::Name), Tick(u64::MAX))));
                }
                return;
            }
        }
        for watch in self.watches.of(host) {
            self.tell(&watch);
        }
    }

    fn tell(&self, watch: &Watch) {
        watch.tell(|port| {
            let now = self.clock.tick();
            if let Some(good) = self.local(watch.host(), now) {
                // The hosts file may change.
                return Some((Ok(answer(good, port)), now.plus_millis(HOSTS_PERIOD_MS)));
            }
            let cache = self.read();
            let known = cache.known(watch.host(), now)?;
            let due = cache.next(watch.host(), now).max(now.plus_millis(WATCH_PERIOD_MIN_MS));
            Some((known.map(|good| answer(good, port)), due))
        });
    }

    fn maintain(self: &Arc<Self>) {
        let now = self.clock.tick();
        if self.hosts_due_us.load(Ordering::Relaxed) <= now.0 {
            self.hosts_due_us.store(now.plus_millis(HOSTS_PERIOD_MS).0, Ordering::Relaxed);
            if self.read_hosts() {
                for watch in self.watches.all() {
                    self.look_after(watch.host());
                }
            }
        }
        let next = now.plus_millis(WATCH_PERIOD_MIN_MS);
        for watch in self.watches.all() {
            if watch.take_due(now, next) {
                self.look_after(watch.host());
            }
        }
    }

    /// Reads the hosts file if it has changed; returns whether it was read. An unreadable file is treated as empty.
    fn read_hosts(&self) -> bool {
        let path: &str = &self.hosts_file;
        let stamp = std::fs::metadata(path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        let mut known = self.hosts_stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == stamp && stamp.is_some() {
            return false;
        }
        let missing_still = known.is_none() && stamp.is_none();
        *known = stamp;
        match std::fs::read(path) {
            Ok(bytes) => self.hosts.store(Arc::new(Hosts::parse(&String::from_utf8_lossy(&bytes)))),
            Err(error) if descriptors::is_transient(&error) => {
                tracing::warn!(path, %error, "the hosts file cannot be read; retrying");
                *known = None;
                return false;
            }
            Err(error) => {
                if !missing_still {
                    tracing::warn!(path, %error, "the hosts file cannot be read");
                }
                self.hosts.store(Arc::default());
            }
        }
        !missing_still
    }
}

/// A lookup in progress. Its end is always reported to the cache, even if it is cancelled.
struct Fetch {
    shared: Arc<Shared>,
    host: Box<str>,
    landing: flag::Sender<Option<Result<Good, DnsError>>>,
    done: bool,
}

impl Fetch {
    async fn run(mut self, last: Option<Kind>) {
        let shared = Arc::clone(&self.shared);
        let hosts = shared.hosts.load_full();
        let walk = Walk { wire: &*shared.wire, hosts: &hosts, order: &shared.order };
        let result = timeout(&*shared.clock, FETCH_TIMEOUT, walk.resolve(&self.host, last)).await;
        self.land(result.unwrap_or(Err(DnsError::Unreachable("timeout"))));
        for watch in shared.watches.of(&self.host) {
            shared.tell(&watch);
        }
    }

    fn land(&mut self, result: Result<Fetched, DnsError>) {
        self.done = true;
        if let Err(error) = &result {
            tracing::debug!(host = %self.host, %error, "a name did not resolve");
        }
        let now = self.shared.clock.tick();
        let outcome = self.shared.write().fetched(&self.host, result, now);
        self.landing.send_replace(Some(outcome));
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.done {
            self.land(Err(DnsError::Unreachable("the lookup was aborted")));
        }
    }
}

fn answer(good: Good, port: u16) -> Answer {
    Answer { records: good.records, port, expires: good.expires }
}

/// An address, in brackets or not.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
