//! What is measured. [`compare`] holds the rounds of the scenarios with a peer; the others measure Cardinal's memory.

mod compare;
mod gibibyte;
mod h2load;
mod idle;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

pub(crate) use self::compare::Measured;
use self::compare::Work;
use crate::load::{self, Counts, Load};
use crate::peers::Peer;

/// How measurements are made.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) cardinal: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) rounds: u32,
    /// The length of one measurement.
    pub(crate) window: Duration,
    /// The share of core 0 that others may use.
    pub(crate) foreign_max: f64,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// HTTP/1.1 keep-alive, 1 KiB bodies
    Plain,
    /// HTTP/1.1 keep-alive, 64 KiB bodies
    Body64k,
    /// HTTP/1.1 keep-alive over TLS, 1 KiB bodies; needs h2load
    Tls,
    /// HTTP/2 over TLS, 1 KiB bodies; needs h2load
    H2,
    /// Memory of Cardinal with 10,000 idle connections
    Idle,
    /// Memory of Cardinal while a gibibyte goes up, and down
    Gibibyte,
}

impl Scenario {
    /// Measures, and gives a section in Markdown.
    pub(crate) fn run(self, bench: &Bench) -> Result<String> {
        match self {
            Self::Plain => compare::run(bench, "HTTP/1.1 keep-alive, 1 KiB", 1024, Work::Own),
            Self::Body64k => compare::run(bench, "HTTP/1.1 keep-alive, 64 KiB", 64 * 1024, Work::Own),
            Self::Tls => compare::run(bench, "HTTP/1.1 keep-alive over TLS, 1 KiB", 1024, Work::H2load(h2load::H1)),
            Self::H2 => compare::run(bench, "HTTP/2 over TLS, 1 KiB", 1024, Work::H2load(h2load::H2)),
            Self::Idle => idle::run(bench),
            Self::Gibibyte => gibibyte::run(bench),
        }
    }
}

/// Runs `work` while another thread serves `load`.
pub(crate) fn serving<T>(load: &mut Load, work: impl FnOnce(&Counts) -> Result<T>) -> Result<T> {
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let loop_thread = scope.spawn(|| load.run(&counts));
        let result = work(&counts);
        counts.stop();
        match loop_thread.join() {
            Ok(served) => served.and(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Keeps Cardinal under load, for a profiler that is given its process id.
pub(crate) fn hold(bench: &Bench, time: Duration) -> Result<()> {
    let mut load = Load::new(&load::Work::plain(1024))?;
    let peer = Peer::cardinal(bench, load.upstream()?)?;
    load.connect(peer.http)?;
    println!("Cardinal is process {}", peer.worker);
    let answered = serving(&mut load, |counts| {
        std::thread::sleep(time);
        Ok(counts.answered())
    })?;
    println!("{answered} requests");
    Ok(())
}
