//! The time from a PATCH of a route to the first request that a data plane answers by it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::http::Client;
use super::node::Node;

/// Time between two requests to the data plane, and limit for an edit to be live.
const LOOK: Duration = Duration::from_micros(500);
const LIVE_MAX: Duration = Duration::from_secs(30);
/// Pause between edits: each is the first one after quiet.
const PAUSE: Duration = Duration::from_millis(50);
/// Edits that are not counted, before the others.
const WARM: usize = 5;

/// Percentiles of durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Times {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (samples.len() as f64 * share).ceil() as usize;
            samples.get(index.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edits {
    /// From the PATCH to its response.
    pub(super) replied: Times,
    /// From the PATCH to the first request that is routed by it.
    pub(super) live: Times,
    /// Bytes of messages to the data plane for each edit.
    pub(super) bytes: f64,
    pub(super) control_cpu_ms: f64,
    pub(super) data_cpu_ms: f64,
}

/// Edits one route again and again.
pub(super) fn run(control: &Node, data: &Node, count: usize) -> Result<Edits> {
    let (mut admin, mut proxy) = (control.client()?, Client::connect(data.proxy)?);
    let number = std::cell::Cell::new(0);
    let mut edit = || {
        number.set(number.get() + 1);
        let path = format!("/edit{}", number.get());
        let since = Instant::now();
        admin.write("PATCH", "/routes/r0", &format!(r#"{{"paths":["{path}"]}}"#))?;
        let replied = since.elapsed();
        while proxy.get("h0.bench.test", &path)?.status != 200 {
            ensure!(since.elapsed() < LIVE_MAX, "an edit is not live after {} s", LIVE_MAX.as_secs());
            std::thread::sleep(LOOK);
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let times = (ms(replied), ms(since.elapsed()));
        std::thread::sleep(PAUSE);
        anyhow::Ok(times)
    };
    for _ in 0..WARM {
        edit()?;
    }
    let (mut replied, mut live) = (Vec::new(), Vec::new());
    let sent = control.metric("cardinal_stream_sent_bytes_total")?;
    let (mut control_cost, mut data_cost) = (None, None);
    data_cost.replace(data.cost(|| {
        control_cost.replace(control.cost(|| {
            for _ in 0..count {
                let (to_reply, to_live) = edit()?;
                replied.push(to_reply);
                live.push(to_live);
            }
            Ok(())
        })?);
        Ok(())
    })?);
    let bytes = (control.metric("cardinal_stream_sent_bytes_total")? - sent) / count as f64;
    let each = |cost: Option<super::node::Cost>| cost.unwrap_or_default().cpu_s * 1e3 / count as f64;
    let (control_cpu_ms, data_cpu_ms) = (each(control_cost), each(data_cost));
    Ok(Edits { replied: Times::of(replied), live: Times::of(live), bytes, control_cpu_ms, data_cpu_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let times = Times::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((times.p50, times.p99, times.max), (100.0, 198.0, 200.0));
        assert_eq!(Times::of(vec![7.0]).p99, 7.0);
        assert_eq!(Times::of(Vec::new()).p50, 0.0);
    }
}
