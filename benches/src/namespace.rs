//! A network namespace for the measurement: its loopback has no filters, no other traffic, and the kernel's own settings.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Set where this program runs in a namespace of its own.
const INSIDE: &str = "CARDINAL_BENCH_NAMESPACE";
/// Runs this program again. `ip` brings the loopback up.
const SCRIPT: &str = "ip link set lo up && exec \"$@\"";

/// Goes on as the same program in a namespace of its own, from its start. Where the user may not make one, or it is there
/// already, nothing is done.
///
/// # Errors
/// When the program cannot be started.
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
    // In place of this process, so that whoever ends it ends the measurement.
    let failed = unshare(SCRIPT).arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(failed).context("cannot start this program again")
}

/// Whether this program runs in a namespace of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}
