//! Watched names: subscribers are notified when their addresses change.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cardinal_base::Tick;

use super::{Answer, Dns, DnsError};

/// The current addresses of a name, or the error.
pub type WatchResult = Result<Answer, DnsError>;

/// All watches of a resolver.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    by_host: HashMap<Box<str>, Vec<Arc<Watch>>>,
}

/// One watch.
pub(super) struct Watch {
    id: u64,
    host: Box<str>,
    port: u16,
    callback: Box<dyn Fn(&WatchResult) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    told: Option<WatchResult>,
    due: Tick,
}

/// Keeps a watch alive; dropping it ends the watch.
#[derive(Debug)]
pub struct WatchGuard {
    watches: Weak<super::Shared>,
    host: Box<str>,
    id: u64,
}

impl Watches {
    pub(super) fn add(
        &self,
        host: &str,
        port: u16,
        callback: Box<dyn Fn(&WatchResult) + Send + Sync>,
        dns: &Dns,
        now: Tick,
    ) -> WatchGuard {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.next_id += 1;
        let id = table.next_id;
        let state = Mutex::new(State { told: None, due: now });
        let watch = Arc::new(Watch { id, host: host.into(), port, callback, state });
        table.by_host.entry(host.into()).or_default().push(watch);
        WatchGuard { watches: Arc::downgrade(&dns.0), host: host.into(), id }
    }

    fn remove(&self, host: &str, id: u64) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watches) = table.by_host.get_mut(host) {
            watches.retain(|watch| watch.id != id);
            if watches.is_empty() {
                table.by_host.remove(host);
            }
        }
    }

    /// The watches of a name.
    pub(super) fn of(&self, host: &str) -> Vec<Arc<Watch>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_host.get(host).cloned().unwrap_or_default()
    }

    /// All watches.
    pub(super) fn all(&self) -> Vec<Arc<Watch>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_host.values().flatten().cloned().collect()
    }
}

impl Watch {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the name is due for a check; if so, the next check is not before `next`.
    pub(super) fn take_due(&self, now: Tick, next: Tick) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let due = state.due <= now;
        if due {
            state.due = next;
        }
        due
    }

    /// Reports the current result if it has changed, and sets the time of the next check. `known` is called under the
    /// watch's lock, so that of two concurrent reports the newer one is delivered last.
    pub(super) fn tell(&self, known: impl FnOnce(u16) -> Option<(WatchResult, Tick)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((result, due)) = known(self.port) else { return };
        state.due = due;
        let news = match (&state.told, &result) {
            (Some(Ok(told)), Ok(now)) => !told.same_addresses(now),
            (Some(Err(told)), Err(now)) => told != now,
            _ => true,
        };
        if news {
            (self.callback)(&result);
        }
        state.told = Some(result);
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.watches.upgrade() {
            shared.watches.remove(&self.host, self.id);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).field("host", &self.host).field("port", &self.port).finish()
    }
}
