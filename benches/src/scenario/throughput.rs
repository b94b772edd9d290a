//! CPU time under maximum load.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, rounds, start, under_load, warm_up};
use crate::load::{Load, Work};
use crate::peers::{Peer, Program, Setup};
use crate::results::Outcome;
use crate::sample;

/// Minimum and maximum duration of the trial before a proxy is measured.
const TRIAL: Duration = Duration::from_millis(100);
const TRIAL_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(
    bench: &Bench,
    work: &Work,
    setup: &Setup,
    programs: &[Program],
    left_out: &mut Vec<String>,
) -> Result<Outcome> {
    let mut load = Load::new(work)?;
    let upstream = load.upstream()?;
    let peers = start(bench, programs, left_out, |program| {
        let peer = Peer::start(&bench.programs, program, setup, upstream)?;
        try_out(&mut load, &peer, work)?;
        Ok(peer)
    })?;
    let names = peers.iter().map(|peer| peer.program.name().to_owned()).collect();
    rounds::run(bench, bench.rounds, names, |at| {
        let Some(peer) = peers.get(at) else { unreachable!("a name for each peer") };
        under_load(&mut load, peer.address(work.kind), |counts| {
            warm_up(counts, work)?;
            sample::take(peer, counts, bench.window)
        })
    })
}

/// Runs a short trial load, which must not fail.
pub(super) fn try_out(load: &mut Load, peer: &Peer, work: &Work) -> Result<()> {
    let (moved, errors) = under_load(load, peer.address(work.kind), |counts| {
        let start = Instant::now();
        loop {
            std::thread::sleep(TRIAL);
            let moved = counts.answered() + counts.bytes();
            if moved > 0 || start.elapsed() > TRIAL_MAX {
                break Ok((moved, counts.errors()));
            }
        }
    })?;
    ensure!(moved > 0, "it does not answer; {}", peer.log());
    ensure!(errors == 0, "{errors} errors in a trial; {}", peer.log());
    Ok(())
}
