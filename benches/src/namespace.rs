//! A network namespace for the measurement: its loopback has no filters, no other traffic, and the kernel's own settings.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Set where this program runs in a namespace of its own.
const INSIDE: &str = "CARDINAL_BENCH_NAMESPACE";
/// Runs this program again. `ip` brings the loopback up.
const SCRIPT: &str = "ip link set lo up && exec \"$@\"";

/// Runs this program again in a namespace of its own, to its end: true when that was done. Where the user may not make
/// one, or it is not the first time, nothing is done.
///
/// # Errors
/// When it failed in there.
pub(crate) fn enter() -> Result<bool> {
    if is_inside() {
        return Ok(false);
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", script, "sh"]);
        command
    };
    let trial = unshare("ip link set lo up").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !trial.is_ok_and(|status| status.success()) {
        eprintln!(
            "warning: no right to make a network namespace (unshare, ip): what filters the loopback has is measured too"
        );
        return Ok(false);
    }
    let this = std::env::current_exe().context("cannot find this program")?;
    let status = unshare(SCRIPT).arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "1").status();
    let status = status.context("cannot start this program again")?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(true)
}

/// Whether this program runs in a namespace of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}
