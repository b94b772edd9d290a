//! What the numbers were measured on. Nothing that names a machine.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::scenario::Bench;

/// The facts as a list in Markdown.
pub(crate) fn facts(bench: &Bench) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown", |l| l.trim_matches([' ', '\t', ':']));
    let cores = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let virtual_machine = cpuinfo.lines().any(|l| l.starts_with("flags") && l.contains(" hypervisor"));
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kib: u64 = meminfo.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let uname = rustix::system::uname();
    let kind = if virtual_machine { ", a virtual machine" } else { "" };
    Ok(format!(
        "- machine: {cores} cores of {model}{kind}, {} GiB, {} {}\n- {}\n- {}\n- {} rounds of {} s for each proxy; others may use {} % of core 0\n",
        kib.div_ceil(1 << 20),
        uname.sysname().to_string_lossy(),
        kernel(&uname.release().to_string_lossy()),
        version(&bench.cardinal, "--version")?,
        version(&bench.nginx, "-v")?,
        bench.rounds,
        bench.window.as_secs_f64(),
        bench.foreign_max * 100.0,
    ))
}

/// The version without what a builder appended to it.
fn kernel(release: &str) -> &str {
    release.split(['-', '+']).next().unwrap_or(release)
}

fn version(program: &std::path::Path, flag: &str) -> Result<String> {
    let output =
        Command::new(program).arg(flag).output().with_context(|| format!("cannot run {}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned())
}
