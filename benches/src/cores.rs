//! Which core runs what.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the proxies.
pub(crate) const PROXY: usize = 0;
/// The core of the clients and the upstream.
pub(crate) const LOAD: usize = 1;

/// How far ahead of other programs the measurement goes, where that is allowed.
const PRIORITY: i32 = -19;
/// Where the kernel shares cores among sessions before it looks at the priorities of their programs (`sched(7)`,
/// "autogroup"), the session has to go ahead too.
const AUTOGROUP: &str = "/proc/self/autogroup";
/// Files this program and the proxies may open, where that is allowed.
const FILES: u64 = 65_536;

/// Lets the session go back to where it was.
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

/// Puts the session back where it was.
pub(crate) fn fall_back() {
    if fs::write(AUTOGROUP, "0").is_err() {
        eprintln!("warning: this session still goes ahead of others");
    }
}

/// Puts this program on the core of the load, ahead of others, with enough files. Proxies inherit the latter two.
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

/// Moves this thread, and what it starts from now on, to a core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot move to core {core}"))
}
