//! Describes the machine and the versions of the programs, without anything that identifies the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::namespace;
use crate::peers::{Program, Programs};

/// Processor, memory and kernel.
pub(crate) fn facts() -> Result<String> {
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
    let network =
        if namespace::is_inside() { "in a network namespace of its own" } else { "on the machine's loopback" };
    Ok(format!(
        "{cores} cores of {model}{kind}, {} GiB, {} {}, {network}",
        kib.div_ceil(1 << 20),
        uname.sysname().to_string_lossy(),
        kernel(&uname.release().to_string_lossy()),
    ))
}

/// The version without the suffix of the builder.
fn kernel(release: &str) -> &str {
    release.split(['-', '+']).next().unwrap_or(release)
}

/// The versions of the available programs.
pub(crate) fn versions(programs: &Programs, chosen: &[Program]) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for program in chosen {
        let Ok(mut version) = programs.version(*program) else { continue };
        if *program == Program::Cardinal {
            version += &build(&programs.cardinal);
        }
        if !version.is_empty() {
            versions.insert(program.name().to_owned(), version);
        }
    }
    versions
}

/// The revision of the sources, if they are a Git checkout, and the build profile, which is the name of cargo's folder.
fn build(binary: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let mut text = String::new();
    if let Some(revision) = git(&["rev-parse", "--short", "HEAD"]) {
        let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "../crates", "../Cargo.lock"]);
        text += &format!(", revision {revision}");
        if changed.is_some_and(|files| !files.is_empty()) {
            text += " with changes";
        }
    }
    if let Some(profile) = binary.parent().and_then(Path::file_name) {
        text += &format!(", profile `{}`", profile.to_string_lossy());
    }
    text
}
