//! Developer commands: `cargo xtask --help`.
//!
//! Checks of the repository (`floors`, `tidy`) are plain functions of a directory, so that tests can run them on small
//! trees and on the repository itself. Start at [`Command`].

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod bench;
mod conform;
mod docs;
mod floors;
mod fresh;
mod guard;
mod new_plugin;
mod problem;
#[cfg(test)]
mod temp;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::problem::Problem;

/// Developer commands.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks that every crate depends on crates of lower floors only.
    Floors,
    /// Checks sizes, names, module roots, opening comments, plugin folders, words, dependencies and the tools of tests.
    Tidy,
    /// Writes the tables of docs/ that come from the schemas.
    #[command(alias = "compat")]
    Gen {
        /// Only reports what is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Builds the binary that is published and measures it: `cargo xtask bench --help`.
    Bench(bench::Args),
    /// Counts the instructions of requests and compares them with benches/guard/counts.txt.
    Guard(guard::Args),
    /// Runs external conformance suites and real clients, and writes docs/conformance.md.
    Conform(conform::Args),
    /// Runs the README's commands, or with --quick the tests, in a minimal Debian.
    Fresh(fresh::Args),
    /// Lays out the folder of a new plugin, which compiles and passes its test, and registers it.
    NewPlugin(new_plugin::Args),
}

fn main() -> Result<ExitCode> {
    let root = workspace::root();
    match Args::parse().command {
        Command::Floors => Ok(report("floors", &floors::check(&workspace::metadata(&root)?))),
        Command::Tidy => {
            let mut problems = tidy::check(&root)?;
            problems.extend(tidy::dependencies::check(&workspace::metadata(&root)?)?);
            Ok(report("tidy", &problems))
        }
        Command::Gen { check: true } => Ok(report("generated documentation", &docs::stale(&root)?)),
        Command::Gen { check: false } => {
            for file in docs::write(&root)? {
                println!("wrote {file}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(args) => bench::run(&root, &args),
        Command::Guard(args) => guard::run(&root, &args),
        Command::Conform(args) => conform::run(&root, &args),
        Command::Fresh(args) => fresh::run(&root, &args),
        Command::NewPlugin(args) => {
            println!("{}", new_plugin::run(&root, &args)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn report(what: &str, problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("{what}: ok");
        return ExitCode::SUCCESS;
    }
    eprintln!("{what}: {} to repair", problems.len());
    ExitCode::FAILURE
}
