//! Reads the kernel's counters from `/proc`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Nanoseconds per tick of `/proc/stat`: user space always sees 100 ticks per second.
const TICK_NS: u64 = 10_000_000;

/// The CPU time of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    /// The total, in nanoseconds.
    pub(crate) all_ns: u64,
    /// User and kernel time, in ticks: only precise enough for their ratio.
    pub(crate) user_ticks: u64,
    pub(crate) kernel_ticks: u64,
}

impl CpuTime {
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
        let (user_ticks, kernel_ticks) = user_and_kernel(&text)?;
        Ok(Self { all_ns: cpu_ns(pid)?, user_ticks, kernel_ticks })
    }

    /// The share of user time since `before`.
    pub(crate) fn user_share_since(&self, before: &Self) -> f64 {
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let kernel = self.kernel_ticks.saturating_sub(before.kernel_ticks) as f64;
        if user + kernel > 0.0 { user / (user + kernel) } else { 0.0 }
    }
}

/// Fields 14 and 15. The second field, the name of the program, may contain spaces and parentheses.
fn user_and_kernel(stat: &str) -> Result<(u64, u64)> {
    let (_name, rest) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let mut fields = rest.split_whitespace().skip(11);
    Ok((number(fields.next(), "/proc/PID/stat")?, number(fields.next(), "/proc/PID/stat")?))
}

/// The CPU time of all threads of a process, in nanoseconds.
fn cpu_ns(pid: u32) -> Result<u64> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let mut sum = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("process {pid} is gone"))? {
        // A thread may exit between listing and reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += number(text.split_whitespace().next(), "schedstat")?;
    }
    Ok(sum)
}

/// The time a core was not idle, in nanoseconds: user, nice, system, interrupts, stolen.
pub(crate) fn core_ns(core: usize) -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_ns(&text, core)
}

fn busy_ns(stat: &str, core: usize) -> Result<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|l| l.split_whitespace().next() == Some(&name));
    let fields: Vec<&str> = line.with_context(|| format!("no {name} in /proc/stat"))?.split_whitespace().collect();
    let mut ticks = 0;
    // user 1, nice 2, system 3, idle 4, iowait 5, irq 6, softirq 7, steal 8.
    for at in [1, 2, 3, 6, 7, 8] {
        ticks += number(fields.get(at).copied(), "/proc/stat")?;
    }
    Ok(ticks * TICK_NS)
}

/// Resident memory of a process, in KiB.
pub(crate) fn rss_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// The peak of resident memory since [`forget_peak`], in KiB.
pub(crate) fn peak_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmHWM:")
}

/// Resets the peak to the current resident memory.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("cannot reset the peak of {pid}"))
}

fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    number(line.and_then(|l| l.split_whitespace().next()), name)
}

/// The child processes of a process.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .with_context(|| format!("process {pid} is gone"))?;
    Ok(text.split_whitespace().filter_map(|n| n.parse().ok()).collect())
}

fn number(text: Option<&str>, place: &str) -> Result<u64> {
    text.and_then(|t| t.parse().ok()).with_context(|| format!("{place} is not as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_with_all_but_idle_and_waiting() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 2000 8 16 32 0 0\ncpu10 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_ns(stat, 0).unwrap(), 63 * TICK_NS);
        assert!(busy_ns(stat, 1).is_err());
    }

    #[test]
    fn user_and_kernel_are_found_after_any_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 314 15 0 0 20\n";
        assert_eq!(user_and_kernel(stat).unwrap(), (314, 15));
        assert!(user_and_kernel("7 (a) S 1").is_err());
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = std::process::id();
        let before = cpu_ns(me).unwrap();
        let mut sum = 0_u64;
        while cpu_ns(me).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(rss_kib(me).unwrap() > 100);
    }

    #[test]
    fn a_peak_is_seen_after_it_is_over_and_can_be_forgotten() {
        let me = std::process::id();
        forget_peak(me).unwrap();
        let before = peak_kib(me).unwrap();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        let added = peak_kib(me).unwrap() - before;
        assert!(added > 60 << 10, "{added} KiB");
        forget_peak(me).unwrap();
        assert!(peak_kib(me).unwrap() < before + (32 << 10));
    }
}
