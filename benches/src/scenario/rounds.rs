//! Rounds that alternate between the candidates.

use anyhow::{Context as _, Result};

use super::Bench;
use crate::metric::{Metric, Sample};
use crate::results::{Outcome, Rounds};

/// Measures each candidate in each round. A measurement during which other processes used core 0 is repeated
/// immediately; if the number of repetitions reaches half of the planned measurements, the machine is too busy.
pub(super) fn run(
    bench: &Bench,
    rounds: u32,
    names: Vec<String>,
    mut measure: impl FnMut(usize) -> Result<Sample>,
) -> Result<Outcome> {
    let repeats_max = (rounds * names.len() as u32 / 2).max(3);
    let mut measured = Rounds { names, rounds: Vec::new(), repeated: 0 };
    for number in 1..=rounds {
        let mut round = Vec::new();
        for (at, name) in measured.names.iter().enumerate() {
            let sample = loop {
                let sample = measure(at).with_context(|| format!("{name}, round {number}"))?;
                let foreign = sample.get(&Metric::Foreign).copied().unwrap_or_default();
                if foreign <= bench.foreign_max {
                    break sample;
                }
                eprintln!("{name}, round {number}: others used {:.0} % of core 0: once more", foreign * 100.0);
                measured.repeated += 1;
                if measured.repeated > repeats_max {
                    return Ok(Outcome::TooBusy { repeated: measured.repeated });
                }
            };
            round.push(sample);
        }
        bench.progress.borrow().round(number, rounds, &summary(&measured.names, &round));
        measured.rounds.push(round);
    }
    Ok(Outcome::Measured(measured))
}

/// The most important value of each candidate.
fn summary(names: &[String], round: &[Sample]) -> String {
    let order = [Metric::Micros, Metric::MibPerCpuSecond, Metric::P50, Metric::Start, Metric::Rss64];
    let one = |(name, sample): (&String, &Sample)| {
        let metric = order.into_iter().find(|metric| sample.get(metric).is_some_and(|value| *value > 0.0))?;
        Some(format!("{name} {}", metric.show(*sample.get(&metric)?)))
    };
    names.iter().zip(round).filter_map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests_bench;

    fn sample(foreign: f64) -> Sample {
        Sample::from([(Metric::Foreign, foreign), (Metric::Micros, 1.0)])
    }

    fn run_with(foreign: impl Fn(u32) -> f64) -> Outcome {
        let mut count = 0;
        run(&tests_bench(), 4, vec!["a".to_owned(), "b".to_owned()], |_| {
            count += 1;
            Ok(sample(foreign(count)))
        })
        .unwrap()
    }

    #[test]
    fn a_measurement_that_was_disturbed_is_repeated() {
        let outcome = run_with(|count| if count == 2 { 0.5 } else { 0.01 });
        let Outcome::Measured(rounds) = outcome else { panic!("{outcome:?}") };
        assert_eq!((rounds.rounds.len(), rounds.repeated), (4, 1));
        assert!(rounds.rounds.iter().all(|round| round.len() == 2));
        assert!(rounds.rounds.iter().flatten().all(|sample| sample[&Metric::Foreign] < 0.1));
    }

    #[test]
    fn a_machine_that_is_always_busy_is_given_up() {
        assert_eq!(run_with(|_| 0.5), Outcome::TooBusy { repeated: 5 });
    }
}
