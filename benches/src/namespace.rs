//! A network namespace for the measurement: its loopback has no packet filters, no other traffic, and the kernel's
//! default settings.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Set if this program runs in its own namespace.
const INSIDE: &str = "CARDINAL_BENCH_NAMESPACE";
/// Starts this program again after bringing up the loopback with `ip`.
const SCRIPT: &str = "ip link set lo up && exec \"$@\"";

/// Restarts the program in its own namespace. Does nothing if that is not permitted, or if the program already runs in
/// one.
///
/// # Errors
/// If the program cannot be started.
pub(crate) fn enter() -> Result<()> {
    if is_inside() {
        return Ok(());
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
        return Ok(());
    }
    let this = std::env::current_exe().context("cannot find this program")?;
    // Replaces this process, so that ending the process ends the measurement.
    let failed = unshare(SCRIPT).arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(failed).context("cannot start this program again")
}

/// Whether this program runs in its own namespace.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}
