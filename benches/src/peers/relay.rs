//! The relay: this program, copying bytes in both directions without parsing them.

use std::path::Path;
use std::process::Command;

use super::Site;

pub(super) fn command(program: &Path, site: &Site) -> Command {
    let mut command = Command::new(program);
    command.arg("relay").arg(site.tcp.to_string()).arg(site.upstream.to_string());
    command
}
