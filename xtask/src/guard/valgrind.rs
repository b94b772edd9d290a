//! [`Valgrind`]: counts instructions with callgrind, and reads its profiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::Work;

/// Callgrind only counts while this function of cardinal-guard runs, on its thread.
const MEASURED: &str = "cardinal_guard::measured*";

/// Makes the C library's allocator reuse freed memory without merging or splitting chunks. The cost of merging and
/// splitting depends on the memory layout, which hashing with random seeds influences: up to 1 % of a request. The
/// number of allocations is limited by the tests of cardinal-guard.
const ALLOCATOR: &str = "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=65535:glibc.malloc.tcache_max=65536";

/// An installed Valgrind.
pub(super) struct Valgrind {
    pub(super) version: String,
}

impl Valgrind {
    pub(super) fn find() -> Result<Self> {
        let output = match Command::new("valgrind").arg("--version").output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "valgrind is not installed; it counts instructions. On Debian and Ubuntu: apt-get install valgrind, \
                 or scripts/install-test-deps.sh --check"
            ),
            Err(error) => return Err(error).context("cannot run valgrind"),
        };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(output.status.success() && !version.is_empty(), "valgrind --version fails");
        Ok(Self { version })
    }

    /// Instructions of one request. Profiles of the two runs are left in `folder`.
    pub(super) fn count(&self, binary: &Path, work: &Work, folder: &Path) -> Result<u64> {
        let (once, twice) = std::thread::scope(|scope| {
            let twice = scope.spawn(|| self.collect(binary, work, work.requests * 2, folder));
            (self.collect(binary, work, work.requests, folder), twice.join())
        });
        let twice = twice.map_err(|_| anyhow::anyhow!("a run panicked"))?;
        Ok(twice?.saturating_sub(once?) / work.requests)
    }

    /// Instructions of this many requests.
    fn collect(&self, binary: &Path, work: &Work, requests: u64, folder: &Path) -> Result<u64> {
        let output = quiet("valgrind")
            .args(["--tool=callgrind", "--command-line-only=yes"])
            .arg(format!("--toggle-collect={MEASURED}"))
            .arg(format!("--callgrind-out-file={}", profile_path(folder, work, requests).display()))
            .arg(binary)
            .args([work.name.as_str(), &requests.to_string()])
            .output()
            .context("cannot run valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{}` fails under valgrind:\n{said}", work.name);
        collected(&said).with_context(|| format!("valgrind counts nothing of `{}`:\n{said}", work.name))
    }

    /// Instructions of one request by function, in descending order: of the function alone, or including the functions
    /// that it calls.
    pub(super) fn profile(&self, folder: &Path, work: &Work, inclusive: bool) -> Result<Vec<(u64, String)>> {
        let requests = work.requests * 2;
        let output = quiet("callgrind_annotate")
            .arg(format!("--inclusive={}", if inclusive { "yes" } else { "no" }))
            .args(["--threshold=100", "--auto=no", "--show-percs=no"])
            .arg(profile_path(folder, work, requests))
            .output()
            .context("cannot run callgrind_annotate, which comes with valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "callgrind_annotate fails:\n{said}");
        Ok(functions(&String::from_utf8_lossy(&output.stdout), requests, inclusive))
    }
}

fn profile_path(folder: &Path, work: &Work, requests: u64) -> PathBuf {
    folder.join(format!("{}.{requests}.callgrind", work.name))
}

/// A program with a fixed environment: its size affects the stack position, too.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("GLIBC_TUNABLES", ALLOCATOR);
    for name in ["PATH", "VALGRIND_LIB"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// The count in callgrind's output: `==123== Collected : 456`. A missing count is an error.
pub(super) fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok().filter(|count| *count > 0)
}

/// Parses the list of functions: `1,234  file:function [object]`. A function has a line for each file with code of it:
/// alone, its cost is the sum of the lines; inclusively, each line already includes the others.
pub(super) fn functions(text: &str, requests: u64, inclusive: bool) -> Vec<(u64, String)> {
    let mut sums = BTreeMap::<&str, u64>::new();
    for line in text.lines() {
        let Some((count, place)) = line.trim_start().split_once("  ") else { continue };
        let Ok(count) = count.replace(',', "").parse::<u64>() else { continue };
        let Some((_, function)) = place.trim_start().split_once(':') else { continue };
        let function = function.rsplit_once(" [").map_or(function, |(function, _)| function);
        let sum = sums.entry(function).or_default();
        *sum = if inclusive { count.max(*sum) } else { *sum + count };
    }
    let mut functions: Vec<(u64, String)> =
        sums.into_iter().map(|(function, count)| (count / requests.max(1), function.to_owned())).collect();
    functions.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    functions.retain(|(count, _)| *count > 0);
    functions
}
