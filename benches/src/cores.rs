//! Assigns processes to cores.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the proxies.
pub(crate) const PROXY: usize = 0;
/// The core of the clients and the upstream.
pub(crate) const LOAD: usize = 1;

/// The niceness of the measurement, if it may be set.
const PRIORITY: i32 = -19;
/// If the kernel groups processes by session before their priorities (`sched(7)`, "autogroup"), the niceness of the
/// session has to be set, too.
const AUTOGROUP: &str = "/proc/self/autogroup";
/// Number of files that this program and the proxies may open, if it may be set.
const FILES: u64 = 65_536;

/// Restores the niceness of the session when dropped.
#[derive(Debug)]
pub(crate) struct Prepared {
    session_ahead: bool,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.session_ahead {
            fall_back();
        }
    }
}

/// Restores the niceness of the session.
pub(crate) fn fall_back() {
    if fs::write(AUTOGROUP, "0").is_err() {
        eprintln!("warning: this session still goes ahead of others");
    }
}

/// Pins this program to the core of the load, and raises its priority and file limit, which the proxies inherit.
pub(crate) fn prepare() -> Result<Prepared> {
    let cores = std::thread::available_parallelism().context("cannot count the cores")?.get();
    ensure!(cores >= 2, "two cores are needed: one for the proxy, one for the load");
    pin(LOAD)?;
    if setpriority_process(None, PRIORITY).is_err() {
        eprintln!("warning: no right to go ahead of other programs; on a busy machine many rounds will be repeated");
    }
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    if setrlimit(Resource::Nofile, raised).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
            .context("cannot raise the limit of open files")?;
    }
    Ok(Prepared { session_ahead: fs::write(AUTOGROUP, PRIORITY.to_string()).is_ok() })
}

/// Pins this thread, and threads and processes started by it later, to a core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot move to core {core}"))
}
