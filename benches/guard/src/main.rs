//! Runs a workload, for a profiler: `cardinal-guard plain 2000`. Without arguments, lists the workloads.

#![allow(clippy::print_stdout, reason = "a command line tool talks to its user")]

use std::hint::black_box;

use anyhow::Result;
use cardinal_guard::{Prepared, Workload};
use clap::Parser;

/// Runs a fixed workload on in-memory connections. Without arguments, lists the workloads, each with the number of
/// requests after which the cost of one repeats.
#[derive(Debug, Parser)]
struct Args {
    /// The work
    #[arg(value_enum, requires = "requests")]
    workload: Option<Workload>,
    /// Requests, after those that warm up
    requests: Option<usize>,
}

fn main() -> Result<()> {
    let Args { workload: Some(workload), requests: Some(requests) } = Args::parse() else {
        for workload in Workload::ALL {
            println!("{} {}", workload.name(), workload.requests());
        }
        return Ok(());
    };
    measured(&mut workload.prepare()?, requests)
}

/// The profiled function: callgrind selects it by name (`--toggle-collect`).
#[inline(never)]
fn measured(prepared: &mut Prepared, requests: usize) -> Result<()> {
    black_box(prepared.run(requests))
}
