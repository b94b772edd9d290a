//! One measurement: what was served, and with how much CPU time, over the same window.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cores;
use crate::load::Counts;
use crate::peers::Peer;
use crate::procfs;

/// How long connections are used before a measurement begins.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    /// Seconds of the window.
    pub(crate) seconds: f64,
    /// CPU seconds of the proxy.
    pub(crate) cpu: f64,
    /// The share of core 0 that something else used.
    pub(crate) foreign: f64,
    pub(crate) rss_kib: u64,
}

impl Sample {
    /// Sleeps for the window while another thread makes load. `counted` picks what counts as a request.
    pub(crate) fn take(peer: &Peer, counts: &Counts, counted: fn(&Counts) -> u64, window: Duration) -> Result<Self> {
        let before = Reading::take(peer, counted(counts))?;
        std::thread::sleep(window);
        let after = Reading::take(peer, counted(counts))?;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let cpu = (after.cpu_ns - before.cpu_ns) as f64 / 1e9;
        let core = (after.core_ns - before.core_ns) as f64 / 1e9;
        Ok(Self {
            requests: after.count - before.count,
            seconds,
            cpu,
            foreign: (core - cpu).max(0.0) / seconds,
            rss_kib: procfs::rss_kib(peer.worker)?,
        })
    }

    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.requests as f64 / self.cpu
    }

    pub(crate) fn micros_per_request(&self) -> f64 {
        self.cpu * 1e6 / self.requests as f64
    }

    /// The share of core 0 that the proxy used.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu / self.seconds
    }
}

struct Reading {
    at: Instant,
    count: u64,
    cpu_ns: u64,
    core_ns: u64,
}

impl Reading {
    fn take(peer: &Peer, count: u64) -> Result<Self> {
        let cpu_ns = procfs::cpu_ns(peer.worker)?;
        Ok(Self { at: Instant::now(), count, cpu_ns, core_ns: procfs::core_ns(cores::PROXY)? })
    }
}
