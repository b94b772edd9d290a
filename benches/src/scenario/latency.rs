//! Latencies at a fixed rate, and the latency added by a proxy.

use anyhow::Result;

use super::{Bench, rounds, start, throughput, under_load, warm_up};
use crate::load::{Counts, Latencies, Load, Work};
use crate::metric::{Metric, Sample};
use crate::peers::{Peer, Program, Setup};
use crate::results::Outcome;
use crate::sample;

/// Requests per second: few enough that a slow proxy does not queue them.
pub(super) const RATE: u32 = 2000;
/// Factor by which measurements are longer than others, to observe rare long latencies.
pub(super) const WINDOWS: f64 = 2.0;
/// The name of the upstream without a proxy.
const DIRECT: &str = "direct";

pub(super) fn run(bench: &Bench, left_out: &mut Vec<String>) -> Result<Outcome> {
    let work = Work { rate: Some(RATE), ..Work::plain(1024) };
    let mut load = Load::new(&work)?;
    let upstream = load.upstream()?;
    let window = bench.window.mul_f64(WINDOWS);
    let peers = start(bench, Program::PROXIES, left_out, |program| {
        let peer = Peer::start(&bench.programs, program, &Setup::Http, upstream)?;
        throughput::try_out(&mut load, &peer, &work)?;
        Ok(peer)
    })?;
    let names = std::iter::once(DIRECT).chain(peers.iter().map(|peer| peer.program.name()));
    let mut outcome = rounds::run(bench, bench.rounds, names.map(str::to_owned).collect(), |at| {
        // The first candidate is the upstream itself.
        let peer = at.checked_sub(1).and_then(|at| peers.get(at));
        under_load(&mut load, peer.map_or(upstream, |peer| peer.address(work.kind)), |counts| {
            warm_up(counts, &work)?;
            let before = counts.latencies();
            let mut sample = if let Some(peer) = peer {
                sample::take(peer, counts, window)?
            } else {
                std::thread::sleep(window);
                Sample::new()
            };
            sample.extend(taken(counts, &before));
            Ok(sample)
        })
    })?;
    if let Outcome::Measured(measured) = &mut outcome {
        measured.rounds.iter_mut().for_each(|round| add_what_is_added(round));
    }
    Ok(outcome)
}

/// The latencies since `before`, in microseconds.
pub(super) fn taken(counts: &Counts, before: &Latencies) -> Sample {
    let latencies = counts.latencies().since(before);
    let micros = |quantile| latencies.quantile(quantile).as_secs_f64() * 1e6;
    Sample::from([(Metric::P50, micros(0.5)), (Metric::P99, micros(0.99)), (Metric::P999, micros(0.999))])
}

/// Subtracts the latencies of the first sample from those of the others.
fn add_what_is_added(round: &mut [Sample]) {
    let Some((direct, proxied)) = round.split_first_mut() else { return };
    let pairs = [(Metric::P50, Metric::AddedP50), (Metric::P99, Metric::AddedP99), (Metric::P999, Metric::AddedP999)];
    for sample in proxied {
        for (whole, added) in pairs {
            if let (Some(value), Some(base)) = (sample.get(&whole), direct.get(&whole)) {
                let value = value - base;
                sample.insert(added, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_over_the_direct_way() {
        let sample = |p50, p99| Sample::from([(Metric::P50, p50), (Metric::P99, p99)]);
        let mut round = [sample(20.0, 40.0), sample(50.0, 30.0)];
        add_what_is_added(&mut round);
        assert_eq!(round[0], sample(20.0, 40.0));
        assert_eq!(round[1][&Metric::AddedP50], 30.0);
        assert_eq!(round[1][&Metric::AddedP99], -10.0);
        assert!(!round[1].contains_key(&Metric::AddedP999));
    }
}
