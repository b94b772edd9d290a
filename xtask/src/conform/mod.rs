//! `conform`: runs external conformance suites and real clients against the product, and writes the results page.
//!
//! Each suite in [`SUITES`] is downloaded if its tools are available, run against the binary on free ports, and
//! reported in a section of `docs/conformance.md`. If a suite cannot be run, its section is kept. The command fails if
//! a case fails that is not in the committed page, or that has no reason in [`known`]. Start at [`run`].

mod cache_tests;
mod clients;
mod go_kong;
mod h2spec;
mod known;
mod page;
mod product;
mod schemathesis;
#[cfg(test)]
mod tests;
mod tlsfuzzer;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use self::page::{PAGE, Page};
use self::product::Product;
use crate::workspace;

/// Runs external conformance suites and writes docs/conformance.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only suites whose name begins with this
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// A checkout of tlsfuzzer, which no package registry has
    #[arg(long, value_name = "DIR")]
    tlsfuzzer: Option<PathBuf>,
    /// Tests this build of cardinal instead of making one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Writes the page even if results are worse than those in it
    #[arg(long)]
    accept: bool,
}

/// The input of a suite besides the product.
pub(super) struct Context<'a> {
    /// Folder of installed tools.
    cache: PathBuf,
    tlsfuzzer: Option<&'a Path>,
}

/// An external suite.
pub(super) struct Suite {
    /// The name of its section.
    name: &'static str,
    /// What it tests, and how it is obtained.
    about: &'static str,
    /// Runs the suite. If the error is [`Unavailable`], the section is kept.
    run: fn(&Context<'_>, &Product) -> Result<Report>,
}

/// The suites, in the order of the page.
const SUITES: [Suite; 8] = [
    h2spec::CLEARTEXT,
    h2spec::TLS,
    clients::SUITE,
    cache_tests::SUITE,
    tlsfuzzer::SUITE,
    go_kong::SQLITE,
    go_kong::EXPRESSIONS,
    schemathesis::SUITE,
];

/// Why a suite cannot be run on this machine.
#[derive(Debug)]
pub(super) struct Unavailable(String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The results of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The tool and its version.
    tool: String,
    cases: Vec<Case>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    name: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Skipped,
    /// Contains the output of the tool.
    Failed(String),
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()))?,
        None => build(root)?,
    };
    let context = Context { cache: cache()?, tlsfuzzer: args.tlsfuzzer.as_deref() };
    let path = root.join(PAGE);
    let before = Page::parse(&std::fs::read_to_string(&path).unwrap_or_default())?;
    let mut after = before.clone();
    let mut worse = Vec::new();
    for suite in SUITES.iter().filter(|suite| args.suite.as_ref().is_none_or(|name| suite.name.starts_with(name))) {
        // Each suite gets its own product instance, so that suites do not affect each other.
        let product = Product::start(&binary)?;
        match (suite.run)(&context, &product) {
            Ok(report) => {
                println!("{}: {}", suite.name, page::counts(&report));
                worse.extend(page::worse(suite.name, before.section(suite.name), &report));
                after.set(suite, &report);
            }
            Err(error) if error.is::<Unavailable>() => println!("{}: not run: {error}", suite.name),
            Err(error) => return Err(error.context(format!("suite {}", suite.name))),
        }
    }
    for line in &worse {
        eprintln!("worse: {line}");
    }
    if worse.is_empty() || args.accept {
        std::fs::write(&path, after.to_string()).with_context(|| format!("cannot write {PAGE}"))?;
        println!("wrote {PAGE}");
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--package", "cardinal"]).current_dir(root).status()?;
    ensure!(status.success(), "cardinal does not compile");
    let metadata = workspace::metadata(root)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("debug/cardinal"))
}

fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("cardinal-conform");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// Runs an installation command. If it fails, the suite is unavailable.
fn install(what: &str, command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| Unavailable(format!("{what} cannot be installed: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Unavailable(format!("{what} cannot be installed: {text}")).into())
}

/// Finds a program on `PATH`; if it is missing, the suite is unavailable.
fn program(name: &str) -> Result<PathBuf> {
    let probe = cardinal_test_tools::Probe::Command(name.to_owned());
    Ok(probe.find().ok_or_else(|| Unavailable(format!("{name} is not installed")))?)
}
