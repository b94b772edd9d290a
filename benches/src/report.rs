//! Tables in Markdown, and the page they go to.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::sample::Sample;
use crate::scenario::Measured;

/// What is between these lines of the page is written by this program.
const BEGIN: &str = "<!-- measured -->\n";
const END: &str = "<!-- end: measured -->";

/// A table of the proxies. The first is what the others are compared with.
pub(crate) fn comparison(title: &str, measured: &Measured) -> String {
    let base = measured.names.first().copied().unwrap_or_default();
    let mut text = format!(
        "### {title}\n\n| proxy | requests per CPU-second | ratio to {base} | CPU µs a request | core 0 used | others used | RSS MiB | errors |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for (at, name) in measured.names.iter().enumerate() {
        let samples: Vec<&Sample> = measured.rounds.iter().filter_map(|round| round.get(at)).collect();
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(|s| value(s)));
        let ratios = Spread::of(
            measured
                .rounds
                .iter()
                .filter_map(|round| Some(round.get(at)?.per_cpu_second() / round.first()?.per_cpu_second())),
        );
        let micros = of(Sample::micros_per_request);
        writeln!(
            text,
            "| {name} | {:.0} | {:.2} [{:.2}-{:.2}] | {:.2} [{:.2}-{:.2}] | {:.0} % | {:.1} % | {} | {} |",
            of(Sample::per_cpu_second).median,
            ratios.median,
            ratios.min,
            ratios.max,
            micros.median,
            micros.min,
            micros.max,
            of(Sample::busy).median * 100.0,
            of(|s| s.foreign).median * 100.0,
            mib(samples.last().map_or(0, |s| s.rss_kib)),
            measured.errors.get(at).copied().unwrap_or(0),
        )
        .ok();
    }
    let requests: u64 = measured.rounds.iter().flatten().map(|s| s.requests).sum();
    writeln!(
        text,
        "\n{} rounds counted, {} were repeated because something else used the core; {requests} requests.",
        measured.rounds.len(),
        measured.repeated
    )
    .ok();
    text
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// Puts the tables into the page.
pub(crate) fn write(page: &Path, tables: &str) -> Result<()> {
    let old = std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let new = replaced(&old, tables).context("docs/benchmarks.md has lost the lines between which tables go")?;
    std::fs::write(page, new).with_context(|| format!("cannot write {}", page.display()))
}

fn replaced(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", tables.trim()))
}

/// Median and ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, min: at(0), max: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests: u64, cpu: f64) -> Sample {
        Sample { requests, seconds: 1.0, cpu, foreign: 0.01, rss_kib: 2048 }
    }

    #[test]
    fn medians_are_between_the_middle_values() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0].into_iter()), Spread { median: 3.0, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0].into_iter()).median, 2.5);
    }

    #[test]
    fn ratios_are_formed_in_each_round() {
        let rounds = vec![
            vec![sample(100, 1.0), sample(300, 1.0)],
            vec![sample(100, 2.0), sample(100, 1.0)],
            vec![sample(1000, 1.0), sample(1000, 1.0)],
        ];
        let measured = Measured { names: vec!["nginx", "Cardinal"], rounds, errors: vec![0, 7], repeated: 4 };
        let text = comparison("H1", &measured);
        assert!(
            text.contains(
                "| Cardinal | 300 | 2.00 [1.00-3.00] | 3333.33 [1000.00-10000.00] | 100 % | 1.0 % | 2.0 | 7 |"
            ),
            "{text}"
        );
        assert!(text.contains("3 rounds counted, 4 were repeated"), "{text}");
    }

    #[test]
    fn only_what_is_between_the_lines_is_replaced() {
        let page = "# Page\n<!-- measured -->\nold\n<!-- end: measured -->\nText\n";
        let new = "# Page\n<!-- measured -->\n\n| new |\n\n<!-- end: measured -->\nText\n";
        assert_eq!(replaced(page, "\n| new |\n").unwrap(), new);
        assert_eq!(replaced("# Page\n", "x"), None);
    }
}
