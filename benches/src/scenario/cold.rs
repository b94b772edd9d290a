//! Time from the start of a program to its first response.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, rounds, serving, start};
use crate::load::{Load, Work};
use crate::metric::{Metric, Sample};
use crate::peers::{Peer, Program, Setup};
use crate::results::Outcome;

/// Time limit for the start.
const START_MAX: Duration = Duration::from_secs(20);
/// Interval between attempts.
const LOOK: Duration = Duration::from_micros(300);

pub(super) fn run(bench: &Bench, left_out: &mut Vec<String>) -> Result<Outcome> {
    let mut load = Load::new(&Work::plain(1024))?;
    let upstream = load.upstream()?;
    // One start before the measurement loads the program file into memory.
    let setup = Setup::Http;
    let tried =
        start(bench, Program::PROXIES, left_out, |program| Peer::start(&bench.programs, program, &setup, upstream))?;
    let programs: Vec<Program> = tried.iter().map(|peer| peer.program).collect();
    drop(tried);
    let names = programs.iter().map(|program| program.name().to_owned()).collect();
    serving(&mut load, |_| {
        rounds::run(bench, bench.rounds, names, |at| {
            let Some(program) = programs.get(at) else { unreachable!("a name for each program") };
            let start = Instant::now();
            let mut peer = Peer::spawn(&bench.programs, *program, &setup, upstream)?;
            while !peer.answers() {
                peer.runs()?;
                ensure!(start.elapsed() < START_MAX, "no answer; {}", peer.log());
                std::thread::sleep(LOOK);
            }
            Ok(Sample::from([(Metric::Start, start.elapsed().as_secs_f64() * 1e3)]))
        })
    })
}
