//! The pool of idle connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_base::{Clock, Tick, task};

use super::url::Url;
use crate::connector::Connector;
use crate::http_client::Connection;

/// Maximum number of idle connections to one host.
const PER_HOST_MAX: usize = 8;
/// Maximum number of idle connections in total.
const ALL_MAX: usize = 256;
/// Interval between sweeps for expired connections.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// The properties that a connection must have to serve a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tls: bool,
    /// The server was not verified.
    pub(super) insecure: bool,
    /// Number of the authorities by which the server was verified.
    pub(super) trust: u64,
    /// Lower-case.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Key {
    /// The key of connections that can serve calls to the URL.
    pub(super) fn of(url: &Url<'_>, insecure: bool, connector: &Connector) -> Self {
        let insecure = url.tls && insecure;
        Self {
            tls: url.tls,
            insecure,
            trust: if url.tls && !insecure { connector.trust_number() } else { 0 },
            host: url.host.to_ascii_lowercase().into(),
            port: url.port,
        }
    }
}

/// Idle connections that wait for their next call.
pub(super) struct Idle {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The most recently used connection is last.
    waiting: HashMap<Key, Vec<Waiting>>,
    count: usize,
    /// A sweeper task is running.
    sweeping: bool,
}

struct Waiting {
    connection: Connection,
    until: Tick,
}

impl Waiting {
    fn is_usable(&self, now: Tick) -> bool {
        self.until > now && self.connection.is_ready()
    }
}

impl Idle {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Takes the most recently used connection that is still open and ready for a request.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let now = self.clock.tick();
        let mut state = self.lock();
        let State { waiting, count, .. } = &mut *state;
        let list = waiting.get_mut(key)?;
        let mut found = None;
        while let Some(last) = list.pop() {
            *count -= 1;
            if last.is_usable(now) {
                found = Some(last.connection);
                break;
            }
        }
        if list.is_empty() {
            waiting.remove(key);
        }
        found
    }

    /// Keeps a connection for the given time. If the pool is full, the connection of the same host that has been idle
    /// longest is closed, or else this one.
    pub(super) fn put(self: &Arc<Self>, key: Key, connection: Connection, keepalive: Duration) {
        let now = self.clock.tick();
        let until = now.plus(keepalive);
        let mut state = self.lock();
        if state.count >= ALL_MAX {
            state.sweep(now);
        }
        let full = state.count >= ALL_MAX;
        let list = state.waiting.entry(key).or_default();
        let replaces = !list.is_empty() && (full || list.len() >= PER_HOST_MAX);
        if replaces {
            list.remove(0);
        }
        if replaces || !full {
            list.push(Waiting { connection, until });
        }
        if !replaces && !full {
            state.count += 1;
        }
        state.waiting.retain(|_, list| !list.is_empty());
        if !state.sweeping && state.count > 0 {
            state.sweeping = true;
            let (idle, clock) = (Arc::downgrade(self), Arc::clone(&self.clock));
            task::spawn("idle connections", async move {
                loop {
                    clock.sleep(SWEEP_PERIOD).await;
                    let Some(idle) = idle.upgrade() else { return };
                    let mut state = idle.lock();
                    state.sweep(clock.tick());
                    if state.count == 0 {
                        state.sweeping = false;
                        return;
                    }
                }
            });
        }
    }

    /// Number of idle connections.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sweep(&mut self, now: Tick) {
        let count = &mut self.count;
        self.waiting.retain(|_, list| {
            let before = list.len();
            list.retain(|waiting| waiting.is_usable(now));
            *count -= before - list.len();
            !list.is_empty()
        });
    }
}
