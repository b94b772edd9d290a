//! One measurement under load: the requests served and the CPU time used in the same window.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cores;
use crate::load::Counts;
use crate::metric::{Metric, Sample};
use crate::peers::Peer;
use crate::procfs::{self, CpuTime};

const MIB: f64 = 1024.0 * 1024.0;

/// Sleeps for the window while another thread generates load.
pub(crate) fn take(peer: &Peer, counts: &Counts, window: Duration) -> Result<Sample> {
    let pid = peer.worker()?;
    procfs::forget_peak(pid)?;
    let before = Reading::take(pid, counts)?;
    std::thread::sleep(window);
    let after = Reading::take(pid, counts)?;
    let mut sample = after.since(&before)?;
    sample.insert(Metric::Rss, mib(procfs::rss_kib(pid)?));
    sample.insert(Metric::Peak, mib(procfs::peak_kib(pid)?));
    Ok(sample)
}

/// Converts KiB to MiB.
pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

struct Reading {
    at: Instant,
    answered: u64,
    bytes: u64,
    errors: u64,
    retried: u64,
    cpu: CpuTime,
    core_ns: u64,
}

impl Reading {
    fn take(pid: u32, counts: &Counts) -> Result<Self> {
        Ok(Self {
            answered: counts.answered(),
            bytes: counts.bytes(),
            errors: counts.errors(),
            retried: counts.retried(),
            cpu: CpuTime::read(pid)?,
            at: Instant::now(),
            core_ns: procfs::core_ns(cores::PROXY)?,
        })
    }

    fn since(&self, before: &Self) -> Result<Sample> {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let cpu = (self.cpu.all_ns - before.cpu.all_ns) as f64 / 1e9;
        let core = self.core_ns.saturating_sub(before.core_ns) as f64 / 1e9;
        let answered = (self.answered - before.answered) as f64;
        let bytes = (self.bytes - before.bytes) as f64;
        ensure!(answered > 0.0 || bytes > 0.0, "nothing was answered within {seconds:.1} s");
        ensure!(cpu > 0.0, "the proxy used no CPU time");
        let micros = if answered > 0.0 { cpu * 1e6 / answered } else { 0.0 };
        let user = self.cpu.user_share_since(&before.cpu);
        Ok(Sample::from([
            (Metric::PerCpuSecond, answered / cpu),
            (Metric::MibPerCpuSecond, bytes / MIB / cpu),
            (Metric::Micros, micros),
            (Metric::UserMicros, micros * user),
            (Metric::KernelMicros, micros * (1.0 - user)),
            (Metric::Busy, cpu / seconds),
            (Metric::Foreign, (core - cpu).max(0.0) / seconds),
            (Metric::Errors, (self.errors - before.errors) as f64),
            (Metric::Retried, (self.retried - before.retried) as f64),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_happened_between_two_readings() {
        let at = Instant::now();
        let reading = |scale: u64| Reading {
            at: at + Duration::from_secs(2 * scale),
            answered: 100_000 * scale,
            bytes: (1 << 30) * scale,
            errors: 3 * scale,
            retried: 2 * scale,
            cpu: CpuTime { all_ns: 1_000_000_000 * scale, user_ticks: 20 * scale, kernel_ticks: 60 * scale },
            core_ns: 1_100_000_000 * scale,
        };
        let sample = reading(3).since(&reading(2)).unwrap();
        let near = |metric, value: f64| {
            let found = sample[&metric];
            assert!((found - value).abs() < 1e-9 * value.max(1.0), "{metric:?} is {found}");
        };
        near(Metric::PerCpuSecond, 100_000.0);
        near(Metric::MibPerCpuSecond, 1024.0);
        near(Metric::Micros, 10.0);
        near(Metric::UserMicros, 2.5);
        near(Metric::KernelMicros, 7.5);
        near(Metric::Busy, 0.5);
        near(Metric::Foreign, 0.05);
        near(Metric::Errors, 3.0);
        near(Metric::Retried, 2.0);
        assert!(reading(2).since(&reading(2)).is_err());
    }
}
