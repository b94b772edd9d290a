//! Metrics in Prometheus exposition format, and [`Histogram`].
//!
//! A part of the process that has metrics of its own implements [`MetricSource`]; `/metrics` renders all sources.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// Metrics of a part of the process.
pub trait MetricSource: Send + Sync + std::fmt::Debug {
    /// Appends the current values. It must not wait. Sets of label values must be bounded.
    fn write(&self, text: &mut MetricText);
}

/// Exposition format. All names begin with `cardinal_`.
#[derive(Debug, Default)]
pub struct MetricText(pub String);

impl MetricText {
    /// A metric without labels.
    pub fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    /// The head of a metric: `kind` is `counter`, `gauge` or `histogram`.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP cardinal_{name} {help}\n# TYPE cardinal_{name} {kind}\n"));
    }

    /// Writes a sample. Label values may be names chosen by users.
    pub fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.write(format_args!("cardinal_{name}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = escaped(text);
            self.write(format_args!("{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' }));
        }
        self.write(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    /// Writes the samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (at, own) in histogram.buckets.iter().enumerate() {
            count += own.load(Ordering::Relaxed);
            let bound = histogram.bounds.get(at).map(|bound| (*bound as f64 / histogram.unit).to_string());
            let bound = bound.as_deref().unwrap_or("+Inf");
            self.line(&bucket, &[labels, &[("le", bound)]].concat(), count);
        }
        let sum = histogram.sum.load(Ordering::Relaxed) as f64 / histogram.unit;
        self.line(&format!("{name}_sum"), labels, sum);
        self.line(&format!("{name}_count"), labels, count);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        self.0.write_fmt(text).unwrap_or_default();
    }
}

/// The escaped value of a label: backslashes, quotes and line ends.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Counts values by size. Any thread may observe values; there is no lock.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds of the buckets but the last one, ascending.
    bounds: &'static [u64],
    /// What a value is divided by when it is written.
    unit: f64,
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Bounds in microseconds from half a millisecond to half a minute.
    pub const DURATIONS: &'static [u64] = &[
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000,
    ];
    /// Bounds of numbers of things.
    pub const COUNTS: &'static [u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 10_000, 100_000];

    /// A histogram of microseconds, which is written in seconds.
    pub fn of_durations() -> Self {
        Self::new(Self::DURATIONS, 1e6)
    }

    /// A histogram of numbers.
    pub fn of_counts() -> Self {
        Self::new(Self::COUNTS, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, unit, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = MetricText::default();
        text.line("x", &[("upstream", "a\\b\"c\nd"), ("limit", "requests")], 1);
        assert_eq!(text.0, "cardinal_x{upstream=\"a\\\\b\\\"c\\nd\",limit=\"requests\"} 1\n");
    }

    #[test]
    fn histograms_are_cumulative() {
        let histogram = Histogram::of_durations();
        for micros in [0, 500, 501, 40_000_000] {
            histogram.observe(micros);
        }
        let mut text = MetricText::default();
        text.histogram("x_seconds", &[("operation", "get")], &histogram);
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(lines.len(), Histogram::DURATIONS.len() + 3);
        assert_eq!(lines[0], "cardinal_x_seconds_bucket{operation=\"get\",le=\"0.0005\"} 2");
        assert_eq!(lines[1], "cardinal_x_seconds_bucket{operation=\"get\",le=\"0.001\"} 3");
        assert_eq!(lines[14], "cardinal_x_seconds_bucket{operation=\"get\",le=\"30\"} 3");
        assert_eq!(lines[15], "cardinal_x_seconds_bucket{operation=\"get\",le=\"+Inf\"} 4");
        assert_eq!(lines[16], "cardinal_x_seconds_sum{operation=\"get\"} 40.001001");
        assert_eq!(lines[17], "cardinal_x_seconds_count{operation=\"get\"} 4");
    }
}
