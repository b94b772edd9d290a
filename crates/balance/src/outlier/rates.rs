//! What the counts of one interval say about the addresses of a group.

use cardinal_ir::policy::Detectors;

use super::Detector;

/// Results of one address in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// All of them.
    pub(crate) total: u64,
    /// The failures.
    pub(crate) failures: u64,
}

#[allow(clippy::cast_precision_loss, reason = "shares of counts")]
impl Rate {
    /// Successes, in percent.
    fn success(self) -> f64 {
        (self.total - self.failures.min(self.total)) as f64 / self.total as f64 * 100.0
    }

    /// Failures, in percent.
    fn failure(self) -> f64 {
        self.failures as f64 / self.total as f64 * 100.0
    }
}

/// The places in `rates` of those to eject, in this order, with the reason.
pub(crate) fn outliers(rates: &[Rate], detectors: &Detectors) -> Vec<(usize, Detector)> {
    let busy = |volume: u32| rates.iter().enumerate().filter(move |(_, r)| r.total >= u64::from(volume.max(1)));
    let mut found = Vec::new();
    if let Some(spec) = &detectors.success_rate {
        let hosts: Vec<(usize, f64)> = busy(spec.request_volume).map(|(at, rate)| (at, rate.success())).collect();
        if hosts.len() >= spec.minimum_hosts as usize && !hosts.is_empty() {
            let threshold = threshold(&hosts, spec.stdev_factor);
            found.extend(hosts.iter().filter(|(_, s)| *s < threshold).map(|(at, _)| (*at, Detector::SuccessRate)));
        }
    }
    if let Some(spec) = &detectors.failure_percentage {
        let hosts: Vec<(usize, Rate)> = busy(spec.request_volume).map(|(at, rate)| (at, *rate)).collect();
        if hosts.len() >= spec.minimum_hosts as usize {
            let over = |(_, rate): &&(usize, Rate)| rate.failure() >= f64::from(spec.threshold_percent);
            found.extend(hosts.iter().filter(over).map(|(at, _)| (*at, Detector::FailurePercentage)));
        }
    }
    found
}

/// The mean minus so many standard deviations (of the whole population).
#[allow(clippy::cast_precision_loss, reason = "a number of addresses")]
fn threshold(hosts: &[(usize, f64)], factor: f64) -> f64 {
    let count = hosts.len() as f64;
    let mean = hosts.iter().map(|(_, s)| s).sum::<f64>() / count;
    let variance = hosts.iter().map(|(_, s)| (s - mean) * (s - mean)).sum::<f64>() / count;
    mean - factor * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use cardinal_ir::policy::{FailurePercentage, SuccessRate};

    use super::*;

    fn rate(total: u64, failures: u64) -> Rate {
        Rate { total, failures }
    }

    #[test]
    fn one_that_is_far_below_the_mean_is_found() {
        let spec = SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1.9 };
        let detectors = Detectors { success_rate: Some(spec), ..Detectors::default() };
        let mut rates = vec![rate(100, 0); 5];
        rates.push(rate(100, 20));
        assert_eq!(outliers(&rates, &detectors), [(5, Detector::SuccessRate)]);
        // Mean 96.67, standard deviation 7.45: 82 is below 82.5 but 83 is not.
        assert_eq!(outliers(&rates[1..], &detectors).len(), 1);
        assert!(outliers(&rates[2..], &detectors).is_empty(), "too few addresses");
        rates[5] = rate(99, 99);
        assert!(outliers(&rates, &detectors).is_empty(), "too few requests");
        let bad = vec![rate(100, 50); 6];
        assert!(outliers(&bad, &detectors).is_empty(), "all are alike");
    }

    #[test]
    fn those_over_a_threshold_are_found() {
        let spec = FailurePercentage { minimum_hosts: 3, request_volume: 50, threshold_percent: 85 };
        let detectors = Detectors { failure_percentage: Some(spec), ..Detectors::default() };
        let rates = [rate(100, 85), rate(100, 84), rate(50, 50), rate(49, 49)];
        let found: Vec<usize> = outliers(&rates, &detectors).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, [0, 2]);
        assert!(outliers(&rates[2..], &detectors).is_empty(), "too few addresses");
        assert!(outliers(&[], &detectors).is_empty());
    }
}
