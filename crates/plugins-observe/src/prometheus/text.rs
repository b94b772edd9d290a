//! The Prometheus text format.

use std::fmt::Write as _;

use super::families::{Family, Kind};
use super::registry::SeriesMap;

/// A family with its series.
pub(super) fn family(family: &Family, series: &SeriesMap) -> String {
    let kind = if matches!(family.kind, Kind::Counter(_)) { "counter" } else { "histogram" };
    let mut out = header(family.name, kind, family.help);
    for (values, series) in series {
        let reading = series.read();
        let labels = labels(family.labels.iter().copied().zip(values.iter().map(|value| &**value)));
        let total: u64 = reading.cells.iter().sum();
        match family.kind {
            Kind::Counter(unit) => sample(&mut out, family.name, &labels, number(total, unit)),
            Kind::Histogram(bounds) => {
                let bucket = format!("{}_bucket", family.name);
                let mut below = 0;
                let named = bounds.iter().map(u64::to_string).chain(std::iter::once("+Inf".to_owned()));
                for (bound, count) in named.zip(&reading.cells) {
                    below += count;
                    sample(&mut out, &bucket, &format!("{labels},le=\"{bound}\""), below);
                }
                sample(&mut out, &format!("{}_count", family.name), &labels, total);
                sample(&mut out, &format!("{}_sum", family.name), &labels, reading.sum);
            }
        }
    }
    out
}

/// The two lines before a metric.
pub(super) fn header(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP kong_{name} {help}\n# TYPE kong_{name} {kind}\n")
}

/// `a="b",c="d"`.
pub(super) fn labels<'l>(pairs: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out
}

/// One line.
pub(super) fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    // Writing to a string does not fail.
    writeln!(out, "kong_{name}{open}{labels}{close} {value}").unwrap_or_default();
}

#[allow(clippy::cast_precision_loss, reason = "shown to people")]
fn number(total: u64, unit: u64) -> String {
    if unit == 1 { total.to_string() } else { (total as f64 / unit as f64).to_string() }
}
