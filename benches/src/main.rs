//! Measures Cardinal against other proxies on the same work, by CPU time a request, latency and memory.
//!
//! Proxies run with one worker on core 0; one thread of this program is both the clients and the upstream, on core 1.
//! The measurement compares the number of requests per second of CPU time, in rounds that alternate between the
//! proxies; a measurement during which other processes used core 0 is repeated. Start at [`scenario`]; [`report`] makes
//! the page and the plots from [`results`]. The method and the results are in `docs/benchmarks.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]
#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

mod admin;
mod cores;
mod interrupt;
mod load;
mod machine;
mod metric;
mod namespace;
mod peers;
mod procfs;
mod progress;
mod relay;
mod report;
mod results;
mod sample;
mod scenario;
mod temp;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::peers::{Program, Programs};
use crate::progress::Progress;
use crate::results::{Outcome, Results};
use crate::scenario::{Bench, SCENARIOS, Scenario};

/// Measures Cardinal, nginx, HAProxy and Envoy on the same work
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to measure; can be given several times [default: everything]
    #[arg(long, value_name = "NAME", value_parser = known)]
    scenario: Vec<&'static Scenario>,
    /// Names what can be measured
    #[arg(long)]
    list: bool,
    /// Rounds; in each, each proxy is measured once
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// A program to measure; can be given several times [default: all]
    #[arg(long, value_enum, value_name = "PROGRAM")]
    peer: Vec<Program>,
    /// The cardinal program [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Another cardinal program, measured in the same rounds: what did a change cost?
    #[arg(long, value_name = "PATH", conflicts_with_all = ["write", "merge"])]
    baseline: Option<PathBuf>,
    /// The nginx program
    #[arg(long, value_name = "PATH", default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// The HAProxy program
    #[arg(long, value_name = "PATH", default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
    /// The Envoy program [default: the one that scripts/install-test-deps.sh --bench installs]
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Percent of core 0 that others may use in a measurement that counts
    #[arg(long, default_value_t = 6.0)]
    foreign: f64,
    /// Write docs/benchmarks/results.json anew, and from it the page and its plots
    #[arg(long, conflicts_with = "peer")]
    write: bool,
    /// The same, and keep of the results that are there those of other scenarios
    #[arg(long, conflicts_with_all = ["write", "peer"])]
    merge: bool,
    /// Make page and plots from the results that are there, and measure nothing
    #[arg(long, conflicts_with_all = ["write", "merge"])]
    render: bool,
    /// Serve Cardinal alone for so many seconds under load, for a profiler, and measure nothing
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    hold: Option<f64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures the Admin API, edits and data planes at scale
    Admin(admin::Args),
    /// Copies bytes between clients and an upstream
    #[command(hide = true)]
    Relay { listen: SocketAddr, upstream: SocketAddr },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    match &args.command {
        Some(Command::Relay { listen, upstream }) => return relay::run(*listen, *upstream),
        Some(Command::Admin(args)) => {
            namespace::enter()?;
            interrupt::clean_up_after()?;
            return admin::run(args, &docs);
        }
        None => {}
    }
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:12} {}", scenario.name, scenario.title));
        return Ok(());
    }
    if args.render {
        return report::write(&docs, &Results::read(&docs.join(report::RESULTS))?);
    }
    let programs = programs(&args)?;
    namespace::enter()?;
    interrupt::clean_up_after()?;
    let _ahead = cores::prepare()?;
    if let Some(seconds) = args.hold {
        return scenario::hold(&programs, Duration::from_secs_f64(seconds));
    }
    let kept = if args.merge { Results::read(&docs.join(report::RESULTS))? } else { Results::default() };
    let measured = measure(&args, programs)?;
    let failed: Vec<&str> = names_of_failed(&measured);
    if args.write || args.merge {
        let mut all = kept;
        all.merge(measured.clone())?;
        report::write(&docs, &all)?;
        eprintln!("wrote docs/benchmarks.md, docs/benchmarks/results.json and the plots beside it");
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

/// Runs the selected measurements, and prints the results.
fn measure(args: &Args, programs: Programs) -> Result<Results> {
    let usual = || Program::ALL.iter().copied().filter(|program| *program != Program::Baseline);
    let mut chosen = if args.peer.is_empty() { usual().collect() } else { args.peer.clone() };
    if args.baseline.is_some() {
        chosen.push(Program::Baseline);
    }
    let mut bench = Bench {
        versions: machine::versions(&programs, &chosen),
        programs,
        chosen,
        rounds: args.rounds,
        window: Duration::from_secs_f64(args.seconds),
        foreign_max: args.foreign / 100.0,
        progress: RefCell::new(Progress::new(0.0)),
    };
    let scenarios: Vec<&Scenario> =
        if args.scenario.is_empty() { SCENARIOS.iter().collect() } else { args.scenario.clone() };
    let all = scenarios.iter().map(|scenario| scenario.estimate(&bench)).sum();
    bench.progress = RefCell::new(Progress::new(all));
    let mut results = Results { machine: machine::facts()?, scenarios: std::collections::BTreeMap::new() };
    for scenario in scenarios {
        let entry = scenario.run(&bench);
        println!("{}", report::section(scenario, &entry));
        results.scenarios.insert(scenario.name.to_owned(), entry);
    }
    Ok(results)
}

fn names_of_failed(results: &Results) -> Vec<&str> {
    let failed = results.scenarios.iter().filter(|(_, entry)| !matches!(entry.outcome, Outcome::Measured(_)));
    failed.map(|(name, _)| name.as_str()).collect()
}

fn programs(args: &Args) -> Result<Programs> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let cardinal = args.binary.clone().unwrap_or_else(|| this.with_file_name("cardinal"));
    ensure!(
        cardinal.exists(),
        "there is no {}: build it (cargo build --profile dist -p cardinal) or name it with --binary",
        cardinal.display()
    );
    Ok(Programs {
        cardinal,
        baseline: args.baseline.clone(),
        nginx: args.nginx.clone(),
        haproxy: args.haproxy.clone(),
        envoy: args.envoy.clone().unwrap_or_else(envoy_default),
        relay: this,
    })
}

/// The path at which scripts/install-test-deps.sh installs Envoy.
fn envoy_default() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("cardinal-bench/envoy")
}

fn known(name: &str) -> Result<&'static Scenario, String> {
    Scenario::find(name).ok_or_else(|| "no such scenario; --list names them".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.1..=600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds, from 0.1 to 600".to_owned()),
    }
}
