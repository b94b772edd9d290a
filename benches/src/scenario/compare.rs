//! Rounds that alternate between the proxies.

use anyhow::{Context as _, Result, ensure};

use super::h2load::{self, Flags};
use super::{Bench, serving};
use crate::load::{self, Counts, Load};
use crate::peers::Peer;
use crate::report;
use crate::sample::{Sample, WARM_UP};

/// Times a round is repeated, on average, before the machine is too busy to measure on.
const REPEATS_MAX: u32 = 10;

/// Who makes the requests.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// The clients of this program.
    Own,
    /// h2load, with the upstream of this program.
    H2load(Flags),
}

/// What was measured of the proxies, in the order they ran.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) names: Vec<&'static str>,
    /// A sample of each proxy in each round.
    pub(crate) rounds: Vec<Vec<Sample>>,
    /// Errors of each proxy.
    pub(crate) errors: Vec<u64>,
    /// Rounds that were repeated because something else used the core.
    pub(crate) repeated: u32,
}

/// Measures nginx and Cardinal and gives a section in Markdown.
pub(super) fn run(bench: &Bench, title: &str, body: usize, work: Work) -> Result<String> {
    let mut load = Load::new(&load::Work::plain(body))?;
    let upstream = load.upstream()?;
    let peers = [Peer::nginx(bench, upstream)?, Peer::cardinal(bench, upstream)?];
    for peer in &peers {
        serving(&mut load, |_| peer.ask())?;
    }
    let mut measured = Measured {
        names: peers.iter().map(|p| p.name).collect(),
        rounds: Vec::new(),
        errors: vec![0; peers.len()],
        repeated: 0,
    };
    while measured.rounds.len() < bench.rounds as usize {
        let mut round = Vec::new();
        for (peer, errors) in peers.iter().zip(&mut measured.errors) {
            let (sample, wrong) = sample(bench, &mut load, peer, work).with_context(|| peer.name)?;
            eprintln!(
                "{title}, round {}, {}: {:.0} requests per CPU-second, others used {:.1} % of the core",
                measured.rounds.len() + 1,
                peer.name,
                sample.per_cpu_second(),
                sample.foreign * 100.0
            );
            *errors += wrong;
            round.push(sample);
        }
        if round.iter().all(|sample| sample.foreign <= bench.foreign_max) {
            measured.rounds.push(round);
            continue;
        }
        measured.repeated += 1;
        ensure!(
            measured.repeated < REPEATS_MAX * bench.rounds,
            "other programs use core 0 too much: {} rounds had to be repeated",
            measured.repeated
        );
    }
    Ok(report::comparison(title, &measured))
}

/// One measurement on fresh connections, and how many errors there were.
fn sample(bench: &Bench, load: &mut Load, peer: &Peer, work: Work) -> Result<(Sample, u64)> {
    match work {
        Work::Own => {
            load.connect(peer.http)?;
            let sampled = serving(load, |counts| {
                std::thread::sleep(WARM_UP);
                Ok((Sample::take(peer, counts, Counts::answered, bench.window)?, counts.errors()))
            });
            load.disconnect();
            sampled
        }
        Work::H2load(flags) => serving(load, |counts| {
            let client = h2load::start(flags, peer.tls, bench.window)?;
            std::thread::sleep(WARM_UP);
            let sample = Sample::take(peer, counts, Counts::served, bench.window)?;
            Ok((sample, client.errors()?))
        }),
    }
}
