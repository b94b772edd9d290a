//! Measures Cardinal against a peer on the same work, by CPU time a request.
//!
//! Proxies run with one worker on core 0; one thread of this program is both the clients and the upstream, on core 1.
//! What is compared is how many requests a proxy serves with a second of CPU time, in rounds that alternate between
//! the proxies; a round in which something else used core 0 is repeated. Start at [`scenario`]. The method and the
//! results are in `docs/benchmarks.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]
#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

mod cores;
mod load;
mod machine;
mod peers;
mod procfs;
mod report;
mod sample;
mod scenario;
mod temp;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::scenario::{Bench, Scenario};

/// Measures Cardinal and nginx on the same work.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; in each, each proxy is measured once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 1.5, value_parser = seconds)]
    seconds: f64,
    /// What to measure; can be given several times
    #[arg(long, value_enum, default_values_t = [Scenario::Plain])]
    scenario: Vec<Scenario>,
    /// The cardinal program [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The nginx program
    #[arg(long, value_name = "PATH", default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// Percent of core 0 that others may use in a measurement that counts
    #[arg(long, default_value_t = 6.0)]
    foreign: f64,
    /// Serve Cardinal alone for so many seconds under load, for a profiler, and measure nothing
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    hold: Option<f64>,
    /// Also write the tables into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let binary = match args.binary {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("cardinal"),
    };
    ensure!(
        binary.exists(),
        "there is no {}: build it (cargo build --profile dist -p cardinal) or name it with --binary",
        binary.display()
    );
    let _ahead = cores::prepare()?;
    let bench = Bench {
        cardinal: binary,
        nginx: args.nginx,
        rounds: args.rounds,
        window: Duration::from_secs_f64(args.seconds),
        foreign_max: args.foreign / 100.0,
    };
    if let Some(seconds) = args.hold {
        return scenario::hold(&bench, Duration::from_secs_f64(seconds));
    }
    let mut sections = vec![machine::facts(&bench)?];
    println!("{}", sections.concat());
    for scenario in args.scenario {
        let section = scenario.run(&bench).with_context(|| format!("scenario {scenario:?}"))?;
        println!("{section}");
        sections.push(section);
    }
    if args.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        report::write(&path, &sections.join("\n"))?;
        println!("wrote docs/benchmarks.md");
    }
    Ok(())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.1..=600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds, from 0.1 to 600".to_owned()),
    }
}
