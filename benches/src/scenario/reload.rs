//! Latencies and failures at a fixed rate during repeated configuration changes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::latency::{RATE, taken};
use super::{Bench, rounds, start, throughput, under_load, warm_up};
use crate::load::{Load, Work};
use crate::metric::Metric;
use crate::peers::{Peer, Program, Setup};
use crate::results::Outcome;

/// Interval between changes.
const EVERY: Duration = Duration::from_millis(500);
/// Factor by which measurements are longer than others, to include several changes.
pub(super) const WINDOWS: f64 = 3.0;
/// The programs that reload a changed file.
const PROGRAMS: &[Program] = &[Program::Nginx, Program::Cardinal];

pub(super) fn run(bench: &Bench, left_out: &mut Vec<String>) -> Result<Outcome> {
    let work = Work { rate: Some(RATE), ..Work::plain(1024) };
    let mut load = Load::new(&work)?;
    let upstream = load.upstream()?;
    let window = bench.window.mul_f64(WINDOWS);
    let mut peers = start(bench, PROGRAMS, left_out, |program| {
        let peer = Peer::start(&bench.programs, program, &Setup::Http, upstream)?;
        throughput::try_out(&mut load, &peer, &work)?;
        Ok(peer)
    })?;
    let names = peers.iter().map(|peer| peer.program.name());
    let names = names.flat_map(|name| [name.to_owned(), format!("{name}, changing")]).collect();
    let mut changes = 0;
    rounds::run(bench, bench.rounds, names, |at| {
        // Each program is a candidate twice: without and with changes.
        let Some(peer) = peers.get_mut(at / 2) else { unreachable!("two names for each peer") };
        let address = peer.address(work.kind);
        under_load(&mut load, address, |counts| {
            warm_up(counts, &work)?;
            let (before, errors, retried) = (counts.latencies(), counts.errors(), counts.retried());
            let taken_over = if at % 2 == 0 {
                std::thread::sleep(window);
                0
            } else {
                change(peer, &mut changes, window)?
            };
            let mut sample = taken(counts, &before);
            sample.insert(Metric::Errors, (counts.errors() - errors) as f64);
            sample.insert(Metric::Retried, (counts.retried() - retried) as f64);
            sample.insert(Metric::Changes, f64::from(taken_over));
            Ok(sample)
        })
    })
}

/// Changes the configuration until the window ends; returns the number of applied changes.
fn change(peer: &mut Peer, changes: &mut u32, window: Duration) -> Result<u32> {
    let start = Instant::now();
    let mut last = peer.generation()?;
    let mut taken_over = 0;
    let mut at = Duration::ZERO;
    while at < window {
        *changes += 1;
        peer.change(*changes)?;
        at = (at + EVERY).min(window);
        std::thread::sleep(at.saturating_sub(start.elapsed()));
        peer.runs()?;
        let now = peer.generation()?;
        taken_over += u32::from(now != last);
        last = now;
    }
    Ok(taken_over)
}
