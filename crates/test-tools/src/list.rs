//! The format of `scripts/tools.txt`: one tool per line, in four columns.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program, file or module that is needed from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The name that tests ask for.
    pub name: String,
    /// What it is used by.
    pub uses: Vec<Use>,
    /// How it is found.
    pub probe: Probe,
    /// The Debian package, if there is one.
    pub package: Option<String>,
}

/// What a tool is used by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Building the product.
    Build,
    /// Tests, which fail without it where everything is required.
    Test,
    /// `make check`.
    Check,
    /// `make bench`.
    Bench,
    /// `cargo xtask fresh`.
    Fresh,
    /// Tests that may be skipped without it.
    Optional,
}

/// How a tool is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A program on `PATH`, or where the system keeps its servers.
    Command(String),
    /// A file.
    File(PathBuf),
    /// A file below the user's cache folder.
    Cache(String),
    /// Modules of the system's Python.
    Python(String),
}

/// Reads the list.
///
/// # Errors
/// If a line does not have the four columns, or one of them has a value that is not known.
pub fn parse(text: &str) -> Result<Vec<Tool>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(line).map_err(|error| format!("`{line}`: {error}"))).collect()
}

fn parse_line(line: &str) -> Result<Tool, String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [name, uses, probe, package] = columns[..] else { return Err("a line has four columns".to_owned()) };
    let uses = uses.split(',').map(parse_use).collect::<Result<Vec<_>, _>>()?;
    let probe = match probe.split_once(':') {
        Some(("command", command)) => Probe::Command(command.to_owned()),
        Some(("file", path)) => Probe::File(path.into()),
        Some(("cache", path)) => Probe::Cache(path.to_owned()),
        Some(("python", modules)) => Probe::Python(modules.to_owned()),
        _ => return Err(format!("unknown probe `{probe}`")),
    };
    if package == "-" && uses != [Use::Optional] {
        return Err("only an optional tool may have no package".to_owned());
    }
    Ok(Tool { name: name.to_owned(), uses, probe, package: (package != "-").then(|| package.to_owned()) })
}

fn parse_use(name: &str) -> Result<Use, String> {
    Ok(match name {
        "build" => Use::Build,
        "test" => Use::Test,
        "check" => Use::Check,
        "bench" => Use::Bench,
        "fresh" => Use::Fresh,
        "optional" => Use::Optional,
        _ => return Err(format!("unknown use `{name}`")),
    })
}

impl Probe {
    /// Where the tool is.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        match self {
            Self::Command(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let servers = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
                std::env::split_paths(&path).chain(servers).map(|folder| folder.join(name)).find(|path| path.is_file())
            }
            Self::File(path) => Some(path.clone()).filter(|path| path.exists()),
            Self::Cache(path) => {
                let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
                let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
                Some(cache.join(path)).filter(|path| path.exists())
            }
            Self::Python(modules) => {
                let python = PathBuf::from("/usr/bin/python3");
                let mut command = Command::new(&python);
                command.arg("-c").arg(format!("import {modules}")).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success()).then_some(python)
            }
        }
    }
}
