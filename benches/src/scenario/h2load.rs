//! Clients that speak TLS and HTTP/2: nghttp2's h2load.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::sample::WARM_UP;

/// Flags that choose the protocol and how much is under way.
pub(super) type Flags = &'static [&'static str];

/// HTTP/1.1: 64 connections.
pub(super) const H1: Flags = &["--h1", "-c64", "-m1"];
/// HTTP/2: 8 connections of 8 streams.
pub(super) const H2: Flags = &["-c8", "-m8"];

/// h2load goes on for so much longer than the measurement.
const AFTER: Duration = Duration::from_millis(700);

/// A run under way.
pub(super) struct Run(Child);

/// Starts a run that lasts longer than the measurement.
pub(super) fn start(flags: Flags, proxy: SocketAddr, window: Duration) -> Result<Run> {
    let time = WARM_UP + window + AFTER;
    let child = Command::new("h2load")
        .args(flags)
        .arg(format!("--duration={}ms", time.as_millis()))
        .arg(format!("--connect-to={proxy}"))
        .args(["-H", "accept: application/json, text/plain;q=0.9, */*;q=0.8"])
        .args(["-H", "accept-language: en-GB,en;q=0.7", "-H", "cookie: session=0123456789abcdef"])
        .arg("https://orders.bench.test/search/items/1234?page=3")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start h2load: install nghttp2-client")?;
    Ok(Run(child))
}

impl Run {
    /// Waits for the end; the answers that were wrong or did not come.
    pub(super) fn errors(self) -> Result<u64> {
        let output = self.0.wait_with_output().context("h2load got lost")?;
        ensure!(output.status.success(), "h2load failed: {}", output.status);
        wrong(&String::from_utf8_lossy(&output.stdout)).context("h2load reported in an unknown form")
    }
}

/// The failed, errored and timed out requests, and those with another status than 2xx.
fn wrong(report: &str) -> Option<u64> {
    let line = |name| report.lines().find_map(|l: &str| l.strip_prefix(name));
    let sum = |line: &str, names: &[&str]| {
        line.split(',').try_fold(0, |sum, part| {
            let (number, name) = part.trim().split_once(' ')?;
            Some(if names.contains(&name) { sum + number.parse::<u64>().ok()? } else { sum })
        })
    };
    let failed = sum(line("requests: ")?, &["failed", "errored", "timeout"])?;
    let other = sum(line("status codes: ")?, &["3xx", "4xx", "5xx"])?;
    Some(failed + other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_report_are_added() {
        let report = "finished in 1.00s\nrequests: 20 total, 20 started, 17 done, 14 succeeded, 3 failed, 2 errored, 1 timeout\n\
                      status codes: 10 2xx, 0 3xx, 4 4xx, 5 5xx\n";
        assert_eq!(wrong(report), Some(15));
        assert_eq!(wrong("nothing"), None);
    }
}
