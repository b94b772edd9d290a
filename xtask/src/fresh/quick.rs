//! The quick form: runs test executables built on this machine in the system.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::room::{Network, Room};
use super::{Times, copy_tree, succeed};
use crate::workspace;

/// The paths of the script and of the list of skipped tests in the system.
const SCRIPT: &str = "/root/run-tests.sh";
const SKIPS: &str = "/root/skipped-tests.txt";

/// An executable with tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) package: String,
    /// The folder of the package, used as the working directory like in cargo.
    pub(super) folder: PathBuf,
    pub(super) executable: PathBuf,
}

/// Builds all tests in the same way as `make test`.
pub(super) fn build(root: &Path) -> Result<Vec<Tests>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo test")?;
    ensure!(output.status.success(), "the tests do not compile");
    let tests = executables(&String::from_utf8(output.stdout)?)?;
    ensure!(!tests.is_empty(), "cargo names no test executables");
    Ok(tests)
}

/// Parses cargo's messages.
pub(super) fn executables(messages: &str) -> Result<Vec<Tests>> {
    let mut tests = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        let Some(executable) = message["executable"].as_str().filter(|_| is_test) else { continue };
        let manifest = Path::new(message["manifest_path"].as_str().context("an artifact without manifest")?);
        let folder = manifest.parent().context("a manifest without folder")?.to_path_buf();
        // The id ends with `#NAME@VERSION`, or with `#VERSION` if the folder has the package's name.
        let id = message["package_id"].as_str().unwrap_or_default();
        let name = id.rsplit('#').next().and_then(|end| end.split_once('@')).map(|(name, _)| name.to_owned());
        let name = name.or_else(|| Some(folder.file_name()?.to_string_lossy().into_owned()));
        tests.push(Tests { package: name.unwrap_or_default(), folder, executable: executable.into() });
    }
    Ok(tests)
}

/// Installs the packages that tests need in the system and runs the tests there.
pub(super) fn run(root: &Path, room: &mut Room, tests: &[Tests], times: &mut Times) -> Result<bool> {
    copy_tree(root, &room.path(root))?;
    let metadata = workspace::metadata(root)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    room.bind(Path::new(target));
    times.step("scripts/install-test-deps.sh", || {
        succeed(&mut room.command(Network::Shared, root, "scripts/install-test-deps.sh"))
    })?;
    fs::write(room.path(SCRIPT), script(tests))?;
    let passed = times.step(&format!("{} test executables", tests.len()), || {
        let mut command = room.command(Network::Own, root, "/bin/bash");
        Ok(command.arg(SCRIPT).status().context("cannot run the tests")?.success())
    })?;
    let skips = fs::read_to_string(room.path(SKIPS)).unwrap_or_default();
    if !skips.is_empty() {
        println!("\nSkipped tests:\n{skips}");
    }
    Ok(passed)
}

/// A script that runs every executable as cargo does; fails if one of them fails.
pub(super) fn script(tests: &[Tests]) -> String {
    let mut out = format!("export CARDINAL_REQUIRE_ALL=1 CARDINAL_SKIPS={SKIPS}\nfailed=()\n");
    for test in tests {
        let Tests { package, folder, executable } = test;
        let (folder, executable) = (quoted(folder), quoted(executable));
        let name = executable.trim_matches('\'').rsplit('/').next().unwrap_or_default();
        let environment = format!("CARGO_MANIFEST_DIR={folder} CARGO_PKG_NAME='{package}'");
        writeln!(out, "echo '     Running {package} ({name})'").ok();
        writeln!(out, "(cd {folder} && {environment} {executable}) || failed+=('{package} ({name})')").ok();
    }
    out.push_str("for one in \"${failed[@]}\"; do echo \"failed: $one\" >&2; done\n[ ${#failed[@]} -eq 0 ]\n");
    out
}

/// Quotes a path for a shell script.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
