//! What is left behind when somebody ends a measurement: nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cores, temp};

/// How long proxies have to end by themselves.
const PATIENCE: Duration = Duration::from_millis(500);

/// From now on a signal that asks this program to end ends the proxies too, removes their files, and lets the session go
/// back to its place.
pub(crate) fn clean_up_after() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("signals")?;
    // Installed here, so that none is missed.
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

/// Sends a signal to each process that this one has started.
fn end_children(signal: Signal) {
    let this = std::process::id().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // After the name, which may have anything in it: state, parent.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let (Some(pid), Some(parent)) = (pid, parent)
            && parent == this
        {
            // It may have ended meanwhile.
            kill_process(pid, signal).ok();
        }
    }
}
