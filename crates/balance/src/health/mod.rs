//! Health of one address: four counters and a verdict in one atomic word.
//!
//! The rules are those of Kong's health checker, corner cases included:
//!
//! - A success counter and three failure counters (HTTP, TCP, timeouts), 8 bits each. A counted success clears all
//!   failures, a counted failure clears the successes.
//! - A counter that reaches its limit changes the verdict. A limit of 0 switches the judgement off: such a signal
//!   counts nothing *and clears nothing*.
//! - Successes of a fully healthy address and failures of a fully unhealthy one are not counted.
//! - Active and passive checks have their own limits and share the counters.

use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_ir::{Counts, HealthChecks};

/// What was observed of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A good status, or a connection where that is enough.
    Success,
    /// A bad status, or an answer that is none.
    Http,
    /// A connection that failed or broke.
    Tcp,
    /// Silence.
    Timeout,
}

/// What a status means to a judge.
#[derive(Debug)]
struct Statuses([u64; 16]);

impl Statuses {
    fn new(statuses: &[u16]) -> Self {
        let mut bits = [0; 16];
        for status in statuses {
            if let Some(word) = bits.get_mut(usize::from(status / 64)) {
                *word |= 1 << (status % 64);
            }
        }
        Self(bits)
    }

    fn contains(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word & (1 << (status % 64)) != 0)
    }
}

/// One kind of check's opinion: which signal a status is, and how many of a signal change the verdict.
#[derive(Debug)]
pub struct Judge {
    healthy: Statuses,
    unhealthy: Statuses,
    limits: [u8; 4],
}

impl Judge {
    /// The judge that a user's numbers describe.
    pub fn new(counts: &Counts) -> Self {
        Self {
            healthy: Statuses::new(&counts.healthy_statuses),
            unhealthy: Statuses::new(&counts.unhealthy_statuses),
            limits: [counts.successes, counts.http_failures, counts.tcp_failures, counts.timeouts],
        }
    }

    /// The verdict for this status; `None` for neither. A status in both sets is a success.
    pub fn signal(&self, status: u16) -> Option<Signal> {
        if self.healthy.contains(status) {
            Some(Signal::Success)
        } else if self.unhealthy.contains(status) {
            Some(Signal::Http)
        } else {
            None
        }
    }

    /// How many of this signal change the verdict; 0 is never.
    pub fn limit(&self, signal: Signal) -> u8 {
        let [success, http, tcp, timeout] = self.limits;
        match signal {
            Signal::Success => success,
            Signal::Http => http,
            Signal::Tcp => tcp,
            Signal::Timeout => timeout,
        }
    }
}

/// Both judges of a group.
#[derive(Debug)]
pub struct Checks {
    /// Whether anything can make an address unhealthy.
    pub enabled: bool,
    /// Judges probes.
    pub active: Judge,
    /// Judges traffic.
    pub passive: Judge,
}

impl Checks {
    /// Health checks are on when probes run or traffic can make an address unhealthy.
    pub fn new(checks: &HealthChecks) -> Self {
        let passive = &checks.passive.counts;
        Self {
            enabled: checks.active.healthy_interval_ms != 0
                || checks.active.unhealthy_interval_ms != 0
                || passive.tcp_failures != 0
                || passive.timeouts != 0
                || passive.http_failures != 0,
            active: Judge::new(&checks.active.counts),
            passive: Judge::new(passive),
        }
    }
}

/// The verdict, with the doubts that Kong's checker distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Healthy,
    MostlyHealthy,
    MostlyUnhealthy,
    Unhealthy,
}

impl Level {
    const fn available(self) -> bool {
        matches!(self, Self::Healthy | Self::MostlyHealthy)
    }
}

/// Four counters and a verdict. New addresses are healthy.
#[derive(Debug, Default)]
pub struct Health(AtomicU64);

impl Health {
    /// Whether the address may be picked.
    pub fn available(&self) -> bool {
        Word(self.0.load(Ordering::Relaxed)).level().available()
    }

    /// Counts a signal; `Some(available)` when this changed the verdict. Lock-free.
    pub fn count(&self, signal: Signal, limit: u8) -> Option<bool> {
        if limit == 0 {
            return None;
        }
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let next = Word(seen).after(signal, limit)?;
            match self.0.compare_exchange_weak(seen, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let available = next.level().available();
                    return (available != Word(seen).level().available()).then_some(available);
                }
                Err(newer) => seen = newer,
            }
        }
    }

    /// Sets the verdict by hand and clears the counters; true when the verdict changed.
    pub fn set(&self, available: bool) -> bool {
        let level = if available { Level::Healthy } else { Level::Unhealthy };
        let before = self.0.swap(Word::of(level).0, Ordering::Relaxed);
        Word(before).level().available() != available
    }
}

/// Bits 0-7 successes, 8-15 HTTP failures, 16-23 TCP failures, 24-31 timeouts, 32-33 level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

const SUCCESSES: u64 = 0xff;
const FAILURES: u64 = 0xffff_ff00;

impl Word {
    const fn of(level: Level) -> Self {
        Self((level as u64) << 32)
    }

    const fn level(self) -> Level {
        match (self.0 >> 32) & 3 {
            0 => Level::Healthy,
            1 => Level::MostlyHealthy,
            2 => Level::MostlyUnhealthy,
            _ => Level::Unhealthy,
        }
    }

    /// The word after a signal; `None` when the signal is not counted.
    fn after(self, signal: Signal, limit: u8) -> Option<Self> {
        let level = self.level();
        let (shift, target, kept) = match signal {
            Signal::Success => (0, Level::Healthy, SUCCESSES),
            Signal::Http => (8, Level::Unhealthy, FAILURES),
            Signal::Tcp => (16, Level::Unhealthy, FAILURES),
            Signal::Timeout => (24, Level::Unhealthy, FAILURES),
        };
        if level == target {
            return None;
        }
        let count = (((self.0 >> shift) & 0xff) + 1).min(0xff);
        let counters = ((self.0 & !(0xff << shift)) | (count << shift)) & kept;
        let level = if count >= u64::from(limit) {
            target
        } else {
            match (level, signal) {
                (Level::Healthy, Signal::Http | Signal::Tcp | Signal::Timeout) => Level::MostlyHealthy,
                (Level::Unhealthy, Signal::Success) => Level::MostlyUnhealthy,
                (unchanged, _) => unchanged,
            }
        };
        Some(Self(counters | Self::of(level).0))
    }
}

#[cfg(test)]
mod tests;
