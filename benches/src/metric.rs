//! The metrics and their formats.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Requests or messages per CPU-second of the proxy.
    PerCpuSecond,
    /// MiB of bodies per CPU-second of the proxy.
    MibPerCpuSecond,
    /// CPU time of a request, in microseconds: in total, in user space, in the kernel.
    Micros,
    UserMicros,
    KernelMicros,
    /// The shares of core 0 used by the proxy and by other processes.
    Busy,
    Foreign,
    /// Resident memory of the serving process in MiB: at the end of the measurement, and the peak.
    Rss,
    Peak,
    /// Latencies in microseconds; the added ones are relative to those without a proxy.
    P50,
    P99,
    P999,
    AddedP50,
    AddedP99,
    AddedP999,
    /// Wrong responses and failed connections.
    Errors,
    /// Requests that had to be sent again on another connection.
    Retried,
    /// Number of applied configuration changes.
    Changes,
    /// From the start of the program to its first response, in milliseconds.
    Start,
    /// Resident memory in MiB: without connections, with 64 and with 10,000 idle ones; and KiB per idle connection.
    RssStart,
    Rss64,
    Rss10k,
    IdleKib,
}

/// The result of one measurement of one proxy.
pub(crate) type Sample = BTreeMap<Metric, f64>;

impl Metric {
    /// The column heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PerCpuSecond => "requests per CPU-second",
            Self::MibPerCpuSecond => "MiB per CPU-second",
            Self::Micros => "CPU µs a request",
            Self::UserMicros => "user",
            Self::KernelMicros => "kernel",
            Self::Busy => "core 0 used",
            Self::Foreign => "by others",
            Self::Rss => "RSS MiB",
            Self::Peak => "peak RSS MiB",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::AddedP50 => "added p50 µs",
            Self::AddedP99 => "added p99 µs",
            Self::AddedP999 => "added p99.9 µs",
            Self::Errors => "errors",
            Self::Retried => "sent again",
            Self::Changes => "changes",
            Self::Start => "start ms",
            Self::RssStart => "MiB at start",
            Self::Rss64 => "MiB with 64",
            Self::Rss10k => "MiB with 10,000",
            Self::IdleKib => "KiB for each",
        }
    }

    /// Whether higher values are better.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::PerCpuSecond | Self::MibPerCpuSecond)
    }

    /// Whether the metric is a count: counts are added over the rounds; for other metrics, the median is reported.
    pub(crate) fn is_count(self) -> bool {
        matches!(self, Self::Errors | Self::Retried | Self::Changes)
    }

    /// A value with its significant digits.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Busy => format!("{:.0} %", value * 100.0),
            Self::Foreign => format!("{:.1} %", value * 100.0),
            Self::PerCpuSecond | Self::MibPerCpuSecond | Self::Errors | Self::Retried | Self::Changes => {
                format!("{value:.0}")
            }
            Self::Micros
            | Self::UserMicros
            | Self::KernelMicros
            | Self::Rss
            | Self::Peak
            | Self::P50
            | Self::P99
            | Self::P999
            | Self::AddedP50
            | Self::AddedP99
            | Self::AddedP999
            | Self::Start
            | Self::RssStart
            | Self::Rss64
            | Self::Rss10k
            | Self::IdleKib => digits(value),
        }
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_digits_that_count() {
        assert_eq!(Metric::Micros.show(12.345), "12.3");
        assert_eq!(Metric::Micros.show(1.2345), "1.23");
        assert_eq!(Metric::Rss.show(123.4), "123");
        assert_eq!(Metric::Foreign.show(0.0123), "1.2 %");
        assert_eq!(Metric::PerCpuSecond.show(82_400.4), "82400");
    }

    #[test]
    fn a_sample_is_an_object_of_names() {
        let sample = Sample::from([(Metric::PerCpuSecond, 2.5), (Metric::P999, 1.0)]);
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(text, r#"{"per_cpu_second":2.5,"p999":1.0}"#);
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
    }
}
