//! Cardinal as it is installed, with its access log off.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Site;
use crate::load::{HOSTS, PATHS};

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let config = site.dir.file("kong.yaml", &file(site))?;
    let dir = site.dir.path();
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config).arg("--data-dir").arg(dir.join("data"));
    command.args(["--workers", "1", "--access-log", "off"]);
    let settings = [
        format!("proxy_listen={}, {} http2 ssl", site.http, site.tls),
        "status_listen=off".to_owned(),
        "admin_listen=off".to_owned(),
        format!("ssl_cert={}", dir.join("cert.pem").display()),
        format!("ssl_cert_key={}", dir.join("key.pem").display()),
    ];
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    Ok(command)
}

/// One service; sixteen routes by host and path.
fn file(site: &Site) -> String {
    let mut text =
        format!("_format_version: \"3.0\"\nservices:\n- name: bench\n  url: http://{}\n  routes:\n", site.upstream);
    for host in HOSTS {
        for path in PATHS {
            write!(text, "  - name: {host}-{path}\n    hosts: [{host}.bench.test]\n    paths: [/{path}]\n").ok();
        }
    }
    text
}
