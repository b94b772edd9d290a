//! The results in `docs/benchmarks/results.json`: all samples, so that page and plots can be generated again, and
//! single scenarios replaced.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::metric::{Metric, Sample};

/// The results measured on one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The description of the machine.
    pub(crate) machine: String,
    /// Entries by the name of the scenario.
    pub(crate) scenarios: BTreeMap<String, Entry>,
}

/// The result of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Versions of the programs by name.
    pub(crate) programs: BTreeMap<String, String>,
    /// Seconds of one measurement.
    pub(crate) seconds: f64,
    /// Proxies that were not measured, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// The outcome of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Rounds),
    /// Other processes used core 0 in too many measurements.
    TooBusy {
        repeated: u32,
    },
    Failed {
        why: String,
    },
}

/// Rounds in which each proxy was measured once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rounds {
    /// The proxies, in the order of measurement.
    pub(crate) names: Vec<String>,
    /// A sample of each proxy in each round.
    pub(crate) rounds: Vec<Vec<Sample>>,
    /// Measurements that were repeated because other processes used core 0.
    pub(crate) repeated: u32,
}

/// Median, minimum and maximum of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |index: usize| values.get(index).copied();
        Some(Self { median: f64::midpoint(at(last / 2)?, at(last.div_ceil(2))?), min: at(0)?, max: at(last)? })
    }
}

impl Rounds {
    /// The values of a proxy.
    pub(crate) fn spread(&self, name: &str, metric: Metric) -> Option<Spread> {
        let at = self.place(name)?;
        Spread::of(self.rounds.iter().filter_map(|round| round.get(at)?.get(&metric).copied()))
    }

    /// The sum of the values of a proxy.
    pub(crate) fn sum(&self, name: &str, metric: Metric) -> Option<f64> {
        let at = self.place(name)?;
        let values = self.rounds.iter().filter_map(|round| round.get(at)?.get(&metric).copied());
        values.reduce(|sum, value| sum + value)
    }

    /// The ratio of a proxy's value to that of `other`, computed in each round.
    pub(crate) fn ratio(&self, name: &str, other: &str, metric: Metric) -> Option<Spread> {
        let (at, to) = (self.place(name)?, self.place(other)?);
        Spread::of(self.rounds.iter().filter_map(|round| {
            let (value, base) = (*round.get(at)?.get(&metric)?, *round.get(to)?.get(&metric)?);
            (value > 0.0 && base > 0.0).then(|| value / base)
        }))
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }
}

impl Entry {
    /// The rounds, if the scenario was measured.
    pub(crate) fn rounds(&self) -> Option<&Rounds> {
        match &self.outcome {
            Outcome::Measured(rounds) => Some(rounds),
            Outcome::TooBusy { .. } | Outcome::Failed { .. } => None,
        }
    }
}

impl Results {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }

    /// The text of the file: one line per sample, so that changes can be reviewed.
    pub(crate) fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.rounded())? + "\n")
    }

    /// Adds newer results. Results of different machines are not mixed.
    pub(crate) fn merge(&mut self, newer: Self) -> Result<()> {
        ensure!(
            self.scenarios.is_empty() || self.machine == newer.machine,
            "what is there was measured on another machine ({}) than this one ({}); measure all with --write",
            self.machine,
            newer.machine
        );
        self.machine = newer.machine;
        for (name, entry) in newer.scenarios {
            // A failed measurement does not replace a successful one.
            if matches!(entry.outcome, Outcome::Measured(_)) || !self.scenarios.contains_key(&name) {
                self.scenarios.insert(name, entry);
            }
        }
        Ok(())
    }

    /// The results rounded to six digits.
    fn rounded(&self) -> Self {
        let mut results = self.clone();
        for entry in results.scenarios.values_mut() {
            let Outcome::Measured(measured) = &mut entry.outcome else { continue };
            for value in measured.rounds.iter_mut().flatten().flat_map(|sample| sample.values_mut()) {
                *value = format!("{value:.5e}").parse().unwrap_or(*value);
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[(f64, f64)]) -> Rounds {
        let sample = |value| Sample::from([(Metric::PerCpuSecond, value)]);
        Rounds {
            names: vec!["nginx".to_owned(), "Cardinal".to_owned()],
            rounds: values.iter().map(|(a, b)| vec![sample(*a), sample(*b)]).collect(),
            repeated: 0,
        }
    }

    fn entry(value: f64) -> Entry {
        Entry {
            programs: BTreeMap::from([("nginx".to_owned(), "1".to_owned())]),
            seconds: 1.0,
            left_out: Vec::new(),
            outcome: Outcome::Measured(rounds(&[(1.0, value)])),
        }
    }

    fn results(machine: &str, scenarios: &[(&str, f64)]) -> Results {
        Results {
            machine: machine.to_owned(),
            scenarios: scenarios.iter().map(|(name, value)| ((*name).to_owned(), entry(*value))).collect(),
        }
    }

    #[test]
    fn what_was_not_measured_takes_no_place_of_what_was() {
        let mut all = results("m", &[("plain", 1.0), ("tls", 1.0)]);
        let mut newer = results("m", &[("plain", 2.0)]);
        let busy = Entry { outcome: Outcome::TooBusy { repeated: 9 }, ..entry(0.0) };
        newer.scenarios.extend([("tls".to_owned(), busy.clone()), ("h2".to_owned(), busy.clone())]);
        all.merge(newer).unwrap();
        assert_eq!(all.scenarios["plain"], entry(2.0));
        assert_eq!((&all.scenarios["tls"], &all.scenarios["h2"]), (&entry(1.0), &busy));
    }

    #[test]
    fn medians_are_between_the_middle_values() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[4.0, 1.0, 3.0]), Some(Spread { median: 3.0, min: 1.0, max: 4.0 }));
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ratios_are_formed_in_each_round() {
        let rounds = rounds(&[(100.0, 300.0), (50.0, 100.0), (1000.0, 1000.0)]);
        let ratio = rounds.ratio("Cardinal", "nginx", Metric::PerCpuSecond).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(rounds.sum("nginx", Metric::PerCpuSecond), Some(1150.0));
        assert_eq!(rounds.ratio("Cardinal", "Envoy", Metric::PerCpuSecond), None);
        assert_eq!(rounds.ratio("Cardinal", "nginx", Metric::P50), None);
    }

    #[test]
    fn merging_replaces_the_scenarios_that_are_new() {
        let mut old = results("A", &[("plain", 1.0), ("tls", 2.0)]);
        old.merge(results("A", &[("tls", 3.0), ("tcp", 4.0)])).unwrap();
        assert_eq!(old, results("A", &[("plain", 1.0), ("tls", 3.0), ("tcp", 4.0)]));
    }

    #[test]
    fn results_of_two_machines_are_not_mixed() {
        let mut old = results("A", &[("plain", 1.0)]);
        let error = old.merge(results("B", &[("tls", 3.0)])).unwrap_err().to_string();
        assert!(error.contains("another machine (A)"), "{error}");
        assert_eq!(old, results("A", &[("plain", 1.0)]));
        let mut none = Results::default();
        none.merge(results("B", &[("tls", 3.0)])).unwrap();
        assert_eq!(none.machine, "B");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut results = results("A", &[("plain", 1.0 / 3.0)]);
        let busy = Entry { outcome: Outcome::TooBusy { repeated: 7 }, ..entry(1.0) };
        results.scenarios.insert("tls".to_owned(), busy);
        let text = results.text().unwrap();
        assert!(text.contains("0.333333\n"), "{text}");
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(read.text().unwrap(), text);
        assert_eq!(read.scenarios["tls"], results.scenarios["tls"]);
    }
}
