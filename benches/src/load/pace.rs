//! Determines when requests are sent: each after a response, or at a rate.

use std::collections::VecDeque;
use std::time::Instant;

use super::counts::{Counts, count};

/// When a request was due, in nanoseconds of the load. Zero: the request is not measured.
pub(super) type Due = u64;

#[derive(Debug)]
pub(super) struct Pace {
    epoch: Instant,
    /// Nanoseconds between requests, if there is a rate.
    interval: Option<f64>,
    /// When the next request is due.
    next: f64,
    /// Requests due before this time belong to an earlier run.
    begun: u64,
    /// Clients that wait for a request, once for each free slot.
    free: VecDeque<u64>,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        let interval = rate.map(|rate| 1e9 / f64::from(rate.max(1)));
        // Times start at 1, as zero has a special meaning.
        Self { epoch: Instant::now(), interval, next: 1.0, begun: 1, free: VecDeque::new() }
    }

    /// Starts a run; requests due between runs are skipped.
    pub(super) fn begin(&mut self) {
        let now = self.now();
        self.next = now as f64;
        self.begun = now;
    }

    pub(super) fn forget_clients(&mut self) {
        self.free.clear();
    }

    /// Requests work for a client. If no request is due, the client is queued, and [`Pace::due`] returns it later.
    pub(super) fn want(&mut self, token: u64) -> Option<Due> {
        if self.interval.is_some() {
            self.free.push_back(token);
            return None;
        }
        Some(0)
    }

    /// The client that has to send a request, if one is due.
    pub(super) fn due(&mut self) -> Option<(u64, Due)> {
        let interval = self.interval?;
        if self.free.is_empty() || self.next > self.now() as f64 {
            return None;
        }
        let due = self.next as u64;
        self.next += interval;
        Some((self.free.pop_front()?, due))
    }

    /// Records a correct response.
    pub(super) fn answered(&self, counts: &Counts, due: Due) {
        count(&counts.answered, 1);
        if due >= self.begun {
            counts.latencies.record(self.now().saturating_sub(due));
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_requests_follow_answers() {
        let mut pace = Pace::new(None);
        pace.begin();
        assert_eq!(pace.want(3), Some(0));
        assert_eq!(pace.due(), None);
        let counts = Counts::default();
        pace.answered(&counts, 0);
        assert_eq!((counts.answered(), counts.latencies().count()), (1, 0));
    }

    #[test]
    fn requests_that_come_late_count_from_when_they_were_due() {
        let mut pace = Pace::new(Some(1_000_000_000));
        pace.begin();
        assert_eq!((pace.want(3), pace.want(4)), (None, None));
        let (first, due) = pace.due().unwrap();
        let (second, later) = pace.due().unwrap();
        assert_eq!((first, second), (3, 4));
        assert!(later - due <= 1);
        assert_eq!(pace.due(), None, "nobody is free");
        pace.want(3);
        assert!(pace.due().unwrap().1 - later <= 1, "time passes without requests, but none is left out");
        let counts = Counts::default();
        pace.answered(&counts, due);
        pace.begin();
        pace.answered(&counts, due);
        assert_eq!((counts.answered(), counts.latencies().count()), (2, 1), "the second belongs to an earlier run");
    }
}
