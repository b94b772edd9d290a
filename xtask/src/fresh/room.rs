//! A copy of the minimal system for one run, and commands in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::apt::Sources;
use super::succeed;

/// Creates the mounts of a system and runs a command in it. Mounts are in a namespace that ends with the command.
/// Arguments: the system, `own` or `shared` network, binds (`ro` or `rw`, source, destination in the system), `--`, the
/// command.
const SCRIPT: &str = r#"
root=$1; network=$2; shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ "$network" = own ]; then ip link set lo up; fi
while [ "$1" != -- ]; do
  mkdir -p "$root$3"
  mount --bind "$2" "$root$3"
  if [ "$1" = ro ]; then mount -o remount,bind,ro "$root$3"; fi
  shift 3
done
shift
chroot "$root" "$@"
"#;

/// The path of the toolchain in the system.
const TOOLCHAIN: &str = "/opt/rust";

/// Prefixes of variables that are passed on to the system: network settings.
const PASSED: [&str; 5] = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_DEFAULT", "CARGO_SOURCE_"];

/// The network of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// A separate network: only a loopback, with all ports free.
    Own,
    /// The network of this machine, for downloads.
    Shared,
}

/// A system for one run, removed when dropped.
#[derive(Debug)]
pub(super) struct Room {
    root: PathBuf,
    keep: bool,
    /// The toolchain of this machine.
    toolchain: PathBuf,
    /// Cached packages.
    packages: PathBuf,
    /// Further folders of this machine to mount read-only at the same path.
    binds: Vec<PathBuf>,
}

impl Room {
    /// Copies the system.
    pub(super) fn new(cache: &Path, base: &Path, keep: bool) -> Result<Self> {
        remove_stale(cache)?;
        let root = cache.join(format!("run-{}", std::process::id()));
        succeed(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(&root))?;
        let name = base.file_name().unwrap_or_default().to_string_lossy();
        let packages = cache.join(format!("{name}.packages"));
        fs::create_dir_all(&packages)?;
        Ok(Self { root, keep, toolchain: toolchain()?, packages, binds: Vec::new() })
    }

    /// A path in the system, as a path of this machine.
    pub(super) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Mounts a folder of this machine read-only at the same path.
    pub(super) fn bind(&mut self, folder: &Path) {
        self.binds.push(folder.to_path_buf());
    }

    /// Copies the settings of name resolution, package sources and trusted certificates of this machine.
    pub(super) fn carry_in(&self, sources: &Sources, suite: &str) -> Result<()> {
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            fs::copy(file, self.path(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        fs::write(self.path("/etc/apt/sources.list"), sources.text(suite))?;
        fs::write(self.path("/etc/apt/apt.conf.d/90-of-the-host"), sources.settings())?;
        let certificates = Path::new("/usr/local/share/ca-certificates");
        if certificates.exists() {
            let to = self.path("/usr/local/share");
            fs::create_dir_all(&to)?;
            succeed(Command::new("cp").arg("-r").arg(certificates).arg(to))?;
        }
        let home = self.path("/root/.cargo");
        fs::create_dir_all(&home)?;
        let config = cargo_home()?.join("config.toml");
        if config.exists() {
            fs::copy(&config, home.join("config.toml")).context("cannot copy cargo's configuration")?;
        }
        Ok(())
    }

    /// Copies the crates that this machine's cargo has downloaded.
    pub(super) fn carry_in_crates(&self) -> Result<()> {
        let registry = cargo_home()?.join("registry");
        let to = self.path("/root/.cargo/registry");
        fs::create_dir_all(&to)?;
        for part in ["index", "cache"].map(|part| registry.join(part)).iter().filter(|part| part.exists()) {
            succeed(Command::new("cp").arg("-r").arg(part).arg(&to))?;
        }
        Ok(())
    }

    /// A command in the system. It is stopped, and its mounts are removed, when this program ends.
    pub(super) fn command(&self, network: Network, folder: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        if network == Network::Own {
            command.arg("--net");
        }
        command.args(["--", "/bin/sh", "-euc", SCRIPT, "sh"]).arg(&self.root);
        command.arg(if network == Network::Own { "own" } else { "shared" });
        command.arg("ro").arg(&self.toolchain).arg(TOOLCHAIN);
        command.arg("rw").arg(&self.packages).arg("/var/cache/apt/archives");
        for folder in &self.binds {
            command.arg("ro").arg(folder).arg(folder);
        }
        command.args(["--", "/usr/bin/env", "-i", "-C"]).arg(folder).args(["HOME=/root", "LANG=C.UTF-8"]);
        command.arg(format!("PATH={TOOLCHAIN}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        command.args(passed(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        ));
        command.arg(program);
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.root.display());
        } else if let Err(error) = remove(&self.root) {
            eprintln!("{error:#}");
        }
    }
}

/// The variables to pass on to the system, as `NAME=VALUE`.
pub(super) fn passed(all: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let is_passed = |name: &str| {
        name.to_ascii_lowercase().ends_with("_proxy") || PASSED.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut passed: Vec<_> =
        all.filter(|(name, _)| is_passed(name)).map(|(name, value)| format!("{name}={value}")).collect();
    passed.sort();
    passed
}

/// Removes a system, unless it contains mounts.
fn remove(root: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    ensure!(!is_mounted(&mounts, root), "something is mounted in {}: it is not removed", root.display());
    succeed(Command::new("rm").args(["-rf", "--one-file-system"]).arg(root))
}

pub(super) fn is_mounted(mounts: &str, root: &Path) -> bool {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places.map(Path::new).any(|place| place.starts_with(root))
}

/// Removes the systems of runs that were killed.
fn remove_stale(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(process) = name.strip_prefix("run-") else { continue };
        if !Path::new("/proc").join(process).exists() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("neither CARGO_HOME nor HOME is set")
}

/// The folder of the toolchain that builds this program's workspace, with cargo.
fn toolchain() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    ensure!(path.join("bin/cargo").exists(), "{} has no bin/cargo: a toolchain of rustup is needed", path.display());
    Ok(path)
}
