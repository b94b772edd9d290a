//! `fresh`: runs the README's commands, and the tests, in a minimal Debian without further packages.
//!
//! The system is created with debootstrap in the user's cache folder and copied for each run. Commands run in it by
//! chroot, in separate mount and process namespaces, so that no mount and no process outlives them, however this
//! program ends. The full form runs `make run` and `make test`; the quick form runs the existing test executables,
//! after installing the packages in `scripts/tools.txt`. Start at [`run`].

mod apt;
mod full;
mod quick;
mod room;
mod system;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::room::Room;

/// Runs the README's commands in a minimal Debian.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs the tests, as they are built here, after installing what they need
    #[arg(long)]
    quick: bool,
    /// Debian release to make
    #[arg(long, value_name = "NAME", default_value = "bookworm")]
    suite: String,
    /// Debian mirror; by default that of the apt sources of this machine
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Download all crates again (full form) instead of taking along those in this machine's cargo cache
    #[arg(long)]
    download: bool,
    /// Keeps the directory of the system afterwards, and prints its path
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "`cargo xtask fresh` must run as root: it makes mounts and namespaces and uses chroot"
    );
    for tool in ["debootstrap", "unshare", "ip"] {
        ensure!(
            cardinal_test_tools::find(tool).is_some(),
            "{tool} is not installed; scripts/install-test-deps.sh --fresh installs it"
        );
    }
    let mut times = Times::default();
    let tests = if args.quick { Some(times.step("build the tests here", || quick::build(root))?) } else { None };
    let cache = cache()?;
    let sources = apt::Sources::of_this_machine(args.mirror.as_deref())?;
    let base = times.step(&format!("minimal Debian {}", args.suite), || system::base(&cache, &args.suite, &sources))?;
    let mut room = Room::new(&cache, &base, args.keep)?;
    room.carry_in(&sources, &args.suite)?;
    let passed = match tests {
        Some(tests) => quick::run(root, &mut room, &tests, &mut times),
        None => full::run(root, &room, !args.download, &mut times),
    };
    println!("\n{times}");
    if passed? {
        println!("fresh: ok");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("fresh: failed");
    Ok(ExitCode::FAILURE)
}

/// The folder of cached systems.
fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("cardinal-fresh");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// The durations of the steps.
#[derive(Debug, Default)]
struct Times(Vec<(String, Duration)>);

impl Times {
    fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let clock = stopwatch();
        let done = step().with_context(|| format!("step \"{name}\""));
        self.0.push((name.to_owned(), clock()));
        done
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, time) in &self.0 {
            writeln!(f, "{:>4} min {:>2} s  {name}", time.as_secs() / 60, time.as_secs() % 60)?;
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "a developer command has no simulation")]
pub(crate) fn stopwatch() -> impl Fn() -> Duration {
    let start = std::time::Instant::now();
    move || start.elapsed()
}

/// Runs a program to completion; fails if it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Copies the files of the working tree that git tracks or would add.
fn copy_tree(root: &Path, to: &Path) -> Result<()> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    for file in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let file = std::str::from_utf8(file).context("a file name is not UTF-8")?;
        let (from, to) = (root.join(file), to.join(file));
        // A deleted file may still be in the index.
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap_or(&to))?;
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {file}"))?;
        }
    }
    Ok(())
}
