//! When to probe which address. Sans-io: the caller runs the probes and brings back what came of them.
//!
//! As in Kong there are two rhythms, one for healthy and one for unhealthy addresses; the first round comes one
//! interval after the start, and a round probes each address of its kind once, at most `concurrency` at a time.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::{Active, Cluster, Id};

use crate::AddressKey;
use crate::health::Signal;

/// A probe to run.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Names the address when the result is reported.
    pub key: AddressKey,
    /// The member.
    pub endpoint: Id,
    /// Where to connect.
    pub address: SocketAddr,
    /// The member's name, for Host (unless the group overrides it) and SNI.
    pub host: Arc<str>,
    /// What to send and how long to wait: `health.active`.
    pub settings: Arc<Cluster>,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// Connected, for a TCP probe; or the gRPC health service reports SERVING.
    Success,
    /// An HTTP status.
    Status(u16),
    /// An answer that is no HTTP response, or the gRPC health service reports another status than SERVING.
    BadAnswer,
    /// Connecting, the TLS handshake, sending or receiving failed.
    TcpFailure,
    /// Time ran out.
    Timeout,
    /// The node had no descriptor, memory or port for the probe.
    NotRun,
}

impl ProbeOutcome {
    /// The verdict on the address; `None` for none.
    pub(crate) fn signal(self, judge: &crate::health::Judge) -> Option<Signal> {
        match self {
            Self::Success => Some(Signal::Success),
            Self::Status(status) => judge.signal(status),
            Self::BadAnswer => Some(Signal::Http),
            Self::TcpFailure => Some(Signal::Tcp),
            Self::Timeout => Some(Signal::Timeout),
            Self::NotRun => None,
        }
    }
}

/// The schedule of a group.
#[derive(Debug)]
pub(crate) struct Schedule {
    healthy: Rhythm,
    unhealthy: Rhythm,
    concurrency: usize,
    /// After this time a probe without a result no longer counts as running.
    lost_after_ms: u64,
    waiting: VecDeque<AddressKey>,
    running: Vec<(AddressKey, Tick)>,
}

impl Schedule {
    pub(crate) fn new(active: &Active, now: Tick) -> Self {
        Self {
            healthy: Rhythm::new(active.healthy_interval_ms, now),
            unhealthy: Rhythm::new(active.unhealthy_interval_ms, now),
            concurrency: usize::try_from(active.concurrency).unwrap_or(usize::MAX).max(1),
            // Kong's limit holds for each of connecting, handshake, sending and receiving.
            lost_after_ms: active.timeout_ms.saturating_mul(4).saturating_add(10_000),
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Takes changed settings in; a rhythm that did not change keeps its next round.
    pub(crate) fn update(&mut self, active: &Active, now: Tick) {
        let fresh = Self::new(active, now);
        self.healthy.update(fresh.healthy);
        self.unhealthy.update(fresh.unhealthy);
        self.concurrency = fresh.concurrency;
        self.lost_after_ms = fresh.lost_after_ms;
    }

    /// When to call [`due`](Self::due) next; `None` when probes are off.
    pub(crate) fn next(&self, now: Tick) -> Option<Tick> {
        if !self.waiting.is_empty() && self.running.len() < self.concurrency {
            return Some(now);
        }
        let rounds = [self.healthy.next, self.unhealthy.next].into_iter().flatten().min();
        let lost = self.running.first().map(|(_, at)| at.plus_millis(self.lost_after_ms));
        rounds.into_iter().chain(lost.filter(|_| !self.waiting.is_empty())).min()
    }

    /// Keys to probe now, out of all addresses with their verdicts.
    pub(crate) fn due(&mut self, addresses: &BTreeMap<AddressKey, bool>, now: Tick) -> Vec<AddressKey> {
        let lost_after_ms = self.lost_after_ms;
        self.running.retain(|(_, at)| now < at.plus_millis(lost_after_ms));
        let (healthy, unhealthy) = (self.healthy.beat(now), self.unhealthy.beat(now));
        if healthy || unhealthy {
            let busy: HashSet<AddressKey> =
                self.waiting.iter().copied().chain(self.running.iter().map(|(key, _)| *key)).collect();
            let round = addresses.iter().filter(|(_, available)| if **available { healthy } else { unhealthy });
            self.waiting.extend(round.map(|(key, _)| *key).filter(|key| !busy.contains(key)));
        }
        let mut start = Vec::new();
        while self.running.len() < self.concurrency
            && let Some(key) = self.waiting.pop_front()
        {
            if addresses.contains_key(&key) {
                self.running.push((key, now));
                start.push(key);
            }
        }
        start
    }

    /// A probe is over; false when it is unknown, because it was given up for lost.
    pub(crate) fn finished(&mut self, key: AddressKey) -> bool {
        let before = self.running.len();
        self.running.retain(|(k, _)| *k != key);
        self.running.len() < before
    }
}

/// One of the two rhythms.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    interval_ms: u64,
    next: Option<Tick>,
}

impl Rhythm {
    fn new(interval_ms: u64, now: Tick) -> Self {
        Self { interval_ms, next: (interval_ms > 0).then(|| now.plus_millis(interval_ms)) }
    }

    fn update(&mut self, fresh: Self) {
        if self.interval_ms != fresh.interval_ms {
            *self = fresh;
        }
    }

    /// Whether a round starts now. Rounds that were missed are not caught up.
    fn beat(&mut self, now: Tick) -> bool {
        let Some(next) = self.next.filter(|next| *next <= now) else { return false };
        let following = next.plus_millis(self.interval_ms);
        self.next = Some(if following > now { following } else { now.plus_millis(self.interval_ms) });
        true
    }
}
