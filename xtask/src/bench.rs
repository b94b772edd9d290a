//! Builds the release binary of Cardinal and the benchmark program, and runs the latter.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Arguments are passed to the benchmark program.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments of cardinal-bench; see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    further: Vec<OsString>,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--profile", "dist", "--package", "cardinal", "--package", "cardinal-bench"])
        .current_dir(root)
        .status()
        .context("cannot run cargo build")?;
    if !built.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program = target(&workspace::metadata(root)?)?.join("dist/cardinal-bench");
    let status = Command::new(&program)
        .args(&args.further)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cargo's target directory.
fn target(metadata: &serde_json::Value) -> Result<PathBuf> {
    match metadata.get("target_directory").and_then(serde_json::Value::as_str) {
        Some(path) => Ok(PathBuf::from(path)),
        None => bail!("cargo metadata names no target directory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_directory_is_found() {
        let root = workspace::root();
        assert!(target(&workspace::metadata(&root).unwrap()).unwrap().is_absolute());
        assert!(target(&serde_json::json!({})).is_err());
    }
}
