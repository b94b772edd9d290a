//! Cardinal with few and many routes.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Bench, rounds, throughput, under_load, warm_up};
use crate::load::{Load, Work};
use crate::metric::Metric;
use crate::peers::{Peer, Program, Setup};
use crate::results::Outcome;
use crate::sample;

/// Numbers of routes, with the names of the candidates.
const ROUTES: [(usize, &str); 4] =
    [(100, BASE), (1000, "1,000 routes"), (10_000, "10,000 routes"), (100_000, "100,000 routes")];
/// The candidate with which the others are compared.
pub(super) const BASE: &str = "100 routes";
/// Number of routes that receive requests.
const TARGETS_MAX: usize = 10_000;

struct Candidate {
    load: Load,
    work: Work,
    peer: Peer,
    start_ms: f64,
}

pub(super) fn run(bench: &Bench) -> Result<Outcome> {
    let mut candidates = Vec::new();
    for (routes, name) in ROUTES {
        candidates.push(candidate(bench, routes).with_context(|| name)?);
    }
    let names = ROUTES.map(|(_, name)| name.to_owned()).to_vec();
    rounds::run(bench, bench.rounds, names, |at| {
        let Some(Candidate { load, work, peer, start_ms }) = candidates.get_mut(at) else {
            unreachable!("a name for each candidate")
        };
        under_load(load, peer.address(work.kind), |counts| {
            warm_up(counts, work)?;
            let mut sample = sample::take(peer, counts, bench.window)?;
            sample.insert(Metric::Start, *start_ms);
            Ok(sample)
        })
    })
}

fn candidate(bench: &Bench, routes: usize) -> Result<Candidate> {
    let work = Work { targets: Some(Setup::targets(TARGETS_MAX, routes)), ..Work::plain(1024) };
    let mut load = Load::new(&work)?;
    let start = Instant::now();
    let peer = Peer::start(&bench.programs, Program::Cardinal, &Setup::Routes(routes), load.upstream()?)?;
    let start_ms = start.elapsed().as_secs_f64() * 1e3;
    throughput::try_out(&mut load, &peer, &work)?;
    Ok(Candidate { load, work, peer, start_ms })
}
