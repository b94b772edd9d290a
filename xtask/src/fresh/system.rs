//! The minimal Debian from which every run starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Sources;
use super::succeed;

/// Creates a system with debootstrap, or takes it from the cache.
pub(super) fn base(cache: &Path, suite: &str, sources: &Sources) -> Result<PathBuf> {
    let base = cache.join(suite);
    if base.exists() {
        println!("from {}", base.display());
        return Ok(base);
    }
    // Renamed when it is complete.
    let partial = cache.join(format!("{suite}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    let log = cache.join(format!("{suite}.log"));
    let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new("debootstrap");
    command
        .arg("--variant=minbase")
        .arg(suite)
        .arg(&partial)
        .arg(sources.mirror())
        .stdout(file.try_clone()?)
        .stderr(file);
    if let Some(proxy) = sources.proxy() {
        command.env("http_proxy", proxy);
    }
    succeed(&mut command).with_context(|| format!("debootstrap failed; its output is in {}", log.display()))?;
    fs::rename(&partial, &base).with_context(|| format!("cannot make {}", base.display()))?;
    Ok(base)
}
