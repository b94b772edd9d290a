//! The relay: this program, which copies bytes both ways and looks at nothing.

use std::path::Path;
use std::process::Command;

use super::Site;

pub(super) fn command(program: &Path, site: &Site) -> Command {
    let mut command = Command::new(program);
    command.arg("relay").arg(site.tcp.to_string()).arg(site.upstream.to_string());
    command
}
