//! Prints the progress on standard error.

use std::time::{Duration, Instant};

/// Completed and remaining work, in estimated seconds.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    /// All scenarios.
    all: f64,
    /// Completed scenarios.
    done: f64,
    /// The current scenario.
    current: f64,
    name: &'static str,
}

impl Progress {
    /// `all` is the estimate for all scenarios.
    pub(crate) fn new(all: f64) -> Self {
        Self { start: Instant::now(), all, done: 0.0, current: 0.0, name: "" }
    }

    pub(crate) fn begin(&mut self, name: &'static str, estimate: f64) {
        (self.name, self.current) = (name, estimate);
        eprintln!("{name}: starts; {}", left(self.start.elapsed(), self.all, self.done));
    }

    pub(crate) fn end(&mut self) {
        self.done += self.current;
        self.current = 0.0;
    }

    /// Reports the end of a round.
    pub(crate) fn round(&self, number: u32, rounds: u32, what: &str) {
        let done = self.done + self.current * f64::from(number) / f64::from(rounds);
        eprintln!("{} {number}/{rounds}: {what}; {}", self.name, left(self.start.elapsed(), self.all, done));
    }
}

/// The remaining time, extrapolated from the elapsed time.
fn left(elapsed: Duration, all: f64, done: f64) -> String {
    // At first, the estimate is more accurate than an extrapolation.
    let pace = if done > 20.0 { elapsed.as_secs_f64() / done } else { 1.0 };
    let seconds = (all - done).max(0.0) * pace;
    if seconds < 90.0 { format!("about {seconds:.0} s left") } else { format!("about {:.0} min left", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was_done() {
        assert_eq!(left(Duration::from_secs(1), 600.0, 1.0), "about 10 min left");
        assert_eq!(left(Duration::from_secs(600), 600.0, 300.0), "about 10 min left");
        assert_eq!(left(Duration::from_secs(200), 100.0, 90.0), "about 22 s left");
        assert_eq!(left(Duration::from_secs(200), 100.0, 120.0), "about 0 s left");
    }
}
