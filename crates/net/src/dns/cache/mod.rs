//! The DNS cache: a state machine without I/O; the caller supplies the time.
//!
//! | state of a name | a request gets |
//! |---|---|
//! | fresh answer | the answer |
//! | expired less than `stale_ttl` ago | the answer, and the first to ask starts a fetch |
//! | answer with TTL 0 | a new fetch; all that ask meanwhile share it |
//! | failure younger than its TTL | the stale answer if there is one, else the failure |
//! | nothing | a fetch; all that ask meanwhile share it |
//!
//! As in Kong, "no such name" removes the stale answer; an empty answer, a server failure or a timeout does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_base::Tick;
use cardinal_ir::Resolver;

use super::DnsError;
use super::answer::Records;
use super::walk::{Fetched, Kind};

/// A cached answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Good {
    pub(super) records: Records,
    pub(super) expires: Tick,
}

/// How to handle a request. `F` is the handle on which requests wait for a fetch in progress.
#[derive(Debug, PartialEq)]
pub(super) enum Step<F> {
    /// Serve this answer.
    Serve(Good),
    /// Serve this answer, and start a fetch that reports to [`DnsCache::fetched`].
    ServeAndFetch(Good, F),
    /// Fail.
    Fail(DnsError),
    /// Wait for the fetch in progress.
    Wait(F),
    /// Start a fetch that reports to [`DnsCache::fetched`], and wait for it.
    Fetch(F),
}

/// Lifetimes of entries, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Rules {
    stale_ms: u64,
    not_found_ms: u64,
    error_ms: u64,
    valid_ttl_s: Option<u32>,
    names_max: usize,
}

/// The cache of all names.
#[derive(Debug)]
pub(super) struct DnsCache<F> {
    rules: Rules,
    names: HashMap<Box<str>, Name<F>>,
    /// Fetches in progress.
    fetches: usize,
}

#[derive(Debug)]
struct Name<F> {
    good: Option<Kept>,
    bad: Option<(DnsError, Tick)>,
    fetch: Option<F>,
    /// The record type of the last answer.
    kind: Option<Kind>,
    /// Time of the last request for the name, in microseconds; atomic so that readers can update it.
    used: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    good: Good,
    stale_until: Tick,
    /// The answer's TTL was 0.
    each_time: bool,
}

impl<F: Clone> DnsCache<F> {
    pub(super) fn new(settings: &Resolver) -> Self {
        let rules = Rules {
            stale_ms: u64::from(settings.stale_ttl_s) * 1_000,
            not_found_ms: u64::from(settings.not_found_ttl_s) * 1_000,
            error_ms: u64::from(settings.error_ttl_s) * 1_000,
            valid_ttl_s: settings.valid_ttl_s,
            names_max: usize::try_from(settings.names_max).unwrap_or(usize::MAX).max(1),
        };
        Self { rules, names: HashMap::new(), fetches: 0 }
    }

    /// A fresh answer. The fast path: needs only shared access.
    pub(super) fn peek(&self, host: &str, now: Tick) -> Option<Good> {
        let name = self.names.get(host)?;
        let kept = name.good.as_ref().filter(|kept| now < kept.good.expires)?;
        name.used.store(now.0, Ordering::Relaxed);
        Some(kept.good.clone())
    }

    /// The result that can be served without waiting: a fresh or stale answer, or a cached failure. `None` if there is
    /// none.
    pub(super) fn known(&self, host: &str, now: Tick) -> Option<Result<Good, DnsError>> {
        let name = self.names.get(host)?;
        if let Some(kept) = name.good.as_ref().filter(|kept| now < kept.stale_until) {
            return Some(Ok(kept.good.clone()));
        }
        name.bad.map(|(error, _)| Err(error))
    }

    /// When the next fetch is useful: when the entry expires; `now` without an entry.
    pub(super) fn next(&self, host: &str, now: Tick) -> Tick {
        let Some(name) = self.names.get(host) else { return now };
        match (&name.bad, &name.good) {
            (Some((_, until)), _) if now < *until => *until,
            (_, Some(kept)) if now < kept.good.expires => kept.good.expires,
            _ => now,
        }
    }

    /// The record type of the last answer, if there was one.
    pub(super) fn last_kind(&self, host: &str) -> Option<Kind> {
        self.names.get(host).and_then(|name| name.kind)
    }

    /// Handles a request for a name. `start` creates the handle for waiting if this request has to start a fetch.
    pub(super) fn ask(&mut self, host: &str, now: Tick, start: impl FnOnce() -> F) -> Step<F> {
        if !self.names.contains_key(host) {
            self.make_room(now);
            self.names.insert(host.into(), Name::new());
        }
        let Some(name) = self.names.get_mut(host) else { return Step::Fail(DnsError::Busy) };
        name.used.store(now.0, Ordering::Relaxed);
        let stale = name.good.as_ref().filter(|kept| now < kept.stale_until);
        if let Some((error, until)) = name.bad
            && now < until
        {
            return stale.map_or(Step::Fail(error), |kept| Step::Serve(kept.good.clone()));
        }
        if let Some(kept) = stale.filter(|kept| !kept.each_time) {
            let good = kept.good.clone();
            if now < good.expires || name.fetch.is_some() {
                return Step::Serve(good);
            }
            self.fetches += 1;
            return Step::ServeAndFetch(good, name.fetch.insert(start()).clone());
        }
        if let Some(fetch) = &name.fetch {
            return Step::Wait(fetch.clone());
        }
        self.fetches += 1;
        Step::Fetch(name.fetch.insert(start()).clone())
    }

    /// Stores the result of a fetch; returns the result for the waiting requests.
    pub(super) fn fetched(
        &mut self,
        host: &str,
        result: Result<Fetched, DnsError>,
        now: Tick,
    ) -> Result<Good, DnsError> {
        let rules = self.rules;
        if !self.names.contains_key(host) {
            self.make_room(now);
        }
        let name = self.names.entry(host.into()).or_insert_with(Name::new);
        if name.fetch.take().is_some() {
            self.fetches = self.fetches.saturating_sub(1);
        }
        match result {
            Ok(fetched) => {
                let ttl_s = rules.valid_ttl_s.unwrap_or(fetched.ttl_s);
                let expires = now.plus_millis(u64::from(ttl_s) * 1_000);
                let good = Good { records: fetched.records, expires };
                let stale_until = expires.plus_millis(rules.stale_ms);
                name.good = Some(Kept { good: good.clone(), stale_until, each_time: ttl_s == 0 });
                name.bad = None;
                name.kind = Some(fetched.kind);
                Ok(good)
            }
            // The failure is not a property of the name, and is not cached.
            Err(error) if error.is_local() => {
                name.good.as_ref().filter(|kept| now < kept.stale_until).map(|kept| kept.good.clone()).ok_or(error)
            }
            Err(error) => {
                let ttl_ms = if error.is_definite() { rules.not_found_ms } else { rules.error_ms };
                name.bad = Some((error, now.plus_millis(ttl_ms)));
                if error == DnsError::NotFound {
                    name.good = None;
                }
                name.good.as_ref().filter(|kept| now < kept.stale_until).map(|kept| kept.good.clone()).ok_or(error)
            }
        }
    }

    /// Whether a fetch for this name is in progress.
    pub(super) fn fetching(&self, host: &str) -> bool {
        self.names.get(host).is_some_and(|name| name.fetch.is_some())
    }

    /// Number of fetches in progress.
    pub(super) fn fetches(&self) -> usize {
        self.fetches
    }

    /// Number of names in the cache.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Makes room before a name is added to a full cache: removes expired entries, then the least recently used
    /// sixteenth. Names with a fetch in progress stay; their number is limited elsewhere.
    fn make_room(&mut self, now: Tick) {
        if self.names.len() < self.rules.names_max {
            return;
        }
        self.names.retain(|_, name| !name.dead(now));
        if self.names.len() < self.rules.names_max {
            return;
        }
        let mut ages: Vec<u64> =
            self.names.values().filter(|n| n.fetch.is_none()).map(|n| n.used.load(Ordering::Relaxed)).collect();
        if ages.is_empty() {
            return;
        }
        let at = (ages.len() / 16).min(ages.len() - 1);
        let (_, limit, _) = ages.select_nth_unstable(at);
        let (limit, mut left) = (*limit, at + 1);
        self.names.retain(|_, name| {
            let goes = left > 0 && name.fetch.is_none() && name.used.load(Ordering::Relaxed) <= limit;
            left -= usize::from(goes);
            !goes
        });
    }
}

impl<F> Name<F> {
    fn new() -> Self {
        Self { good: None, bad: None, fetch: None, kind: None, used: AtomicU64::new(0) }
    }

    /// The entry has no usable answer and no waiters.
    fn dead(&self, now: Tick) -> bool {
        self.fetch.is_none()
            && self.good.as_ref().is_none_or(|kept| now >= kept.stale_until)
            && self.bad.is_none_or(|(_, until)| now >= until)
    }
}

#[cfg(test)]
mod tests;
