//! Runs a workload, for a profiler: `cardinal-guard plain 2000`.

use anyhow::Result;
use cardinal_guard::Workload;
use clap::Parser;

/// Runs a fixed workload on connections of memory.
#[derive(Debug, Parser)]
struct Args {
    /// The work
    #[arg(value_enum)]
    workload: Workload,
    /// Requests, after those that warm up
    requests: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    args.workload.prepare()?.run(args.requests)
}
