//! Cleans up when a measurement is interrupted.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cores, temp};

/// Time limit for proxies to stop by themselves.
const PATIENCE: Duration = Duration::from_millis(500);

/// From now on, a termination signal also stops the proxies, removes their files, and restores the niceness of the
/// session.
pub(crate) fn clean_up_after() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("signals")?;
    // Installed here, so that no signal is missed.
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let wait = async move {
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
            _ = hangup.recv() => 129,
        }
    };
    let watch = move || {
        let code = runtime.block_on(wait);
        eprintln!("\nended; the proxies are stopped");
        end_children(Signal::TERM);
        thread::sleep(PATIENCE);
        end_children(Signal::KILL);
        temp::remove_all();
        cores::fall_back();
        std::process::exit(code);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).context("signals")?;
    Ok(())
}

/// Sends a signal to each child process.
fn end_children(signal: Signal) {
    let this = std::process::id().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The fields after the name, which may contain any characters: state, parent.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let (Some(pid), Some(parent)) = (pid, parent)
            && parent == this
        {
            // The process may have exited meanwhile.
            kill_process(pid, signal).ok();
        }
    }
}
