//! Connections that wait for their next call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_base::task;
use cardinal_net::h1::H1;
use tokio::time::Instant;

/// Connections kept for one host.
const PER_HOST_MAX: usize = 8;
/// Connections kept in all.
const ALL_MAX: usize = 256;
/// How often connections that waited too long are looked for.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// What connections must have in common to stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tls: bool,
    /// The server was not verified.
    pub(super) insecure: bool,
    /// The authorities that the server was verified by.
    pub(super) trust: u64,
    /// Lower-case.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// Connections that wait for their next call.
#[derive(Default)]
pub(super) struct Idle(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last one used is at the end.
    waiting: HashMap<Key, Vec<Waiting>>,
    count: usize,
    /// A task looks for those that waited too long.
    sweeping: bool,
}

struct Waiting {
    connection: H1,
    until: Instant,
}

impl Idle {
    /// A connection that is still silent and open; the one that waited least.
    pub(super) fn take(&self, key: &Key) -> Option<H1> {
        let mut state = self.lock();
        let State { waiting, count, .. } = &mut *state;
        let list = waiting.get_mut(key)?;
        let mut found = None;
        while let Some(mut last) = list.pop() {
            *count -= 1;
            if last.until > Instant::now() && last.connection.io().is_silent() {
                found = Some(last.connection);
                break;
            }
        }
        if list.is_empty() {
            waiting.remove(key);
        }
        found
    }

    /// Keeps a connection for so long. Where there is no room, the one of its host that waited longest makes room, or
    /// this one is closed.
    pub(super) fn put(self: &Arc<Self>, key: Key, connection: H1, keepalive: Duration) {
        let Some(until) = Instant::now().checked_add(keepalive) else { return };
        let mut state = self.lock();
        if state.count >= ALL_MAX {
            state.sweep();
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
            let idle = Arc::downgrade(self);
            task::spawn("idle connections", async move {
                loop {
                    tokio::time::sleep(SWEEP_PERIOD).await;
                    let Some(idle) = idle.upgrade() else { return };
                    let mut state = idle.lock();
                    state.sweep();
                    if state.count == 0 {
                        state.sweeping = false;
                        return;
                    }
                }
            });
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sweep(&mut self) {
        let now = Instant::now();
        let count = &mut self.count;
        self.waiting.retain(|_, list| {
            let before = list.len();
            list.retain_mut(|w| w.until > now && w.connection.io().is_silent());
            *count -= before - list.len();
            !list.is_empty()
        });
    }
}
