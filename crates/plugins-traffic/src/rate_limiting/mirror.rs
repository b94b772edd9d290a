//! Local copy of the counters in a Redis server, and the counts that were not sent to the server yet.
//!
//! Requests are decided by the last known count of the server plus the node's own. Deltas are sent, never totals, so
//! that nodes do not overwrite each other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cardinal_base::Clock;
use cardinal_sdk::Services;
use cardinal_sdk::redis::{RedisCall, RedisScript, RedisServer, RedisSettings};
use tokio::runtime::Handle;

use super::remote::counts;

/// Counters known at most.
const KNOWN_MAX: usize = 131_072;

/// Counters sent in one pipeline.
const PIPELINE_MAX: usize = 1_000;

/// Adds a delta and answers the total. A new key expires with its window; in seconds from
/// now, so that the server's clock does not matter.
const ADD: &str = "local n = redis.call('INCRBY', KEYS[1], ARGV[1]) \
    if n == tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end \
    return n";

/// A counter that a decision needs.
pub(super) struct Need {
    pub(super) key: Vec<u8>,
    /// Seconds since 1970.
    pub(super) expires: u64,
    /// Of the window before: read, not counted.
    pub(super) past: bool,
}

struct Known {
    /// As last received from the server.
    total: u64,
    /// Counted here since.
    delta: u64,
    expires: u64,
}

pub(super) struct Mirror {
    known: Mutex<HashMap<Vec<u8>, Known>>,
    scheduled: AtomicBool,
    clock: Arc<dyn Clock>,
    server: Arc<dyn RedisServer>,
    add: Arc<RedisScript>,
    /// Where counters are sent from.
    runtime: Handle,
}

#[derive(Default)]
struct Mirrors(Mutex<HashMap<RedisSettings, Weak<Mirror>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// The mirror of this server, shared by all instances.
    pub(super) fn shared(services: &Services, settings: RedisSettings, server: &Arc<dyn RedisServer>) -> Arc<Self> {
        let mirrors = services.shared.get_or_insert("rate-limiting mirrors", Mirrors::default);
        let mut mirrors = lock(&mirrors.0);
        mirrors.retain(|_, mirror| mirror.strong_count() > 0);
        if let Some(mirror) = mirrors.get(&settings).and_then(Weak::upgrade) {
            return mirror;
        }
        let mirror = Arc::new(Self {
            known: Mutex::default(),
            scheduled: AtomicBool::new(false),
            clock: Arc::clone(&services.clock),
            server: Arc::clone(server),
            add: RedisScript::new(ADD),
            runtime: services.runtime.clone(),
        });
        mirrors.insert(settings, Arc::downgrade(&mirror));
        mirror
    }

    /// The counts, in the order of `needs`; unknown ones are fetched from the server.
    pub(super) async fn read(&self, needs: &[Need], now: u64) -> Result<Vec<u64>, String> {
        let mut found: Vec<Option<u64>> = {
            let known = lock(&self.known);
            needs.iter().map(|need| known.get(&need.key).filter(|k| k.expires > now).map(Known::count)).collect()
        };
        if found.iter().any(Option::is_none) {
            let missing: Vec<&Need> =
                needs.iter().zip(&found).filter(|(_, count)| count.is_none()).map(|(need, _)| need).collect();
            let mut call = RedisCall::new();
            for need in &missing {
                call.command("GET").arg(&need.key);
            }
            let totals = counts(&*self.server, call).await?;
            let mut known = lock(&self.known);
            for (need, total) in missing.into_iter().zip(totals) {
                make_room(&mut known, now);
                let fresh = Known { total, delta: 0, expires: need.expires };
                // Another request may have fetched it meanwhile; its delta must not be lost.
                known.entry(need.key.clone()).or_insert(fresh);
            }
            for (need, count) in needs.iter().zip(&mut found) {
                *count = known.get(&need.key).map(Known::count);
            }
        }
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Counts once more, and sends the count to the server within `rate`.
    pub(super) fn add(self: &Arc<Self>, needs: impl Iterator<Item = Need>, rate: Duration) {
        {
            let mut known = lock(&self.known);
            for need in needs {
                let fresh = Known { total: 0, delta: 0, expires: need.expires };
                known.entry(need.key).or_insert(fresh).delta += 1;
            }
        }
        if self.scheduled.swap(true, Ordering::SeqCst) {
            return;
        }
        let mirror = Arc::clone(self);
        let _entered = self.runtime.enter();
        // Not awaited: a later request schedules the next one.
        drop(cardinal_base::task::spawn("rate-limiting sync", async move {
            mirror.clock.sleep(rate).await;
            mirror.scheduled.store(false, Ordering::SeqCst);
            mirror.send().await;
        }));
    }

    async fn send(&self) {
        let now = self.clock.unix().seconds();
        let deltas: Vec<(Vec<u8>, u64, u64)> = {
            let mut known = lock(&self.known);
            // Counters without new counts are fetched again when they are needed.
            known.retain(|_, k| k.delta > 0 && k.expires > now);
            known.iter().map(|(key, k)| (key.clone(), k.delta, k.expires)).collect()
        };
        for part in deltas.chunks(PIPELINE_MAX) {
            let mut call = RedisCall::new();
            for (key, delta, expires) in part {
                call.script(&self.add, &[key]).integer(*delta).integer(expires.saturating_sub(now).max(1));
            }
            match counts(&*self.server, call).await {
                Ok(totals) => self.heard(part, &totals),
                Err(reason) => {
                    tracing::error!(reason, "rate-limiting: counters could not be sent to Redis; keeping them");
                    return;
                }
            }
        }
    }

    fn heard(&self, sent: &[(Vec<u8>, u64, u64)], totals: &[u64]) {
        let mut known = lock(&self.known);
        for ((key, delta, _), total) in sent.iter().zip(totals) {
            if let Some(k) = known.get_mut(key) {
                k.delta = k.delta.saturating_sub(*delta);
                k.total = *total;
            }
        }
    }
}

impl Known {
    fn count(&self) -> u64 {
        self.total + self.delta
    }
}

fn make_room(known: &mut HashMap<Vec<u8>, Known>, now: u64) {
    if known.len() < KNOWN_MAX {
        return;
    }
    known.retain(|_, k| k.expires > now);
    if known.len() >= KNOWN_MAX {
        known.retain(|_, k| k.delta > 0);
    }
    if known.len() >= KNOWN_MAX {
        // Everything was counted since the last exchange: one counter starts anew.
        if let Some(key) = known.keys().next().cloned() {
            known.remove(&key);
        }
    }
}
