//! Ejection of endpoints whose responses are worse than they should be.

use serde::{Deserialize, Serialize};

/// Endpoints that fail real traffic are ejected: they get no requests for a while, and return by themselves.
///
/// An ejection lasts [`base_ejection_ms`](Self::base_ejection_ms) times the number of ejections in a row, at most
/// [`max_ejection_ms`](Self::max_ejection_ms); each interval that the endpoint spends without being ejected takes one off
/// that number. Ejections are independent of health checks: an endpoint gets requests when it is healthy and not ejected.
/// An ejection makes an endpoint unavailable for [`LocalityPolicy`](super::LocalityPolicy), whose panic threshold may use
/// it all the same, and for [`HealthChecks::threshold_percent`](crate::HealthChecks::threshold_percent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutlierDetection {
    /// Whether endpoints are ejected. When it becomes false, all return.
    pub enabled: bool,
    /// Between two evaluations of success rates, and of which endpoints return, in milliseconds.
    pub interval_ms: u64,
    /// Duration of a first ejection, in milliseconds.
    pub base_ejection_ms: u64,
    /// Longest duration of an ejection, in milliseconds; the base duration where that is longer.
    pub max_ejection_ms: u64,
    /// Most addresses of the cluster that are ejected at once, in percent. One may always be ejected unless this is 0
    /// (Envoy's rule), so that small clusters have the protection as well.
    pub max_ejection_percent: u32,
    /// Failures to connect, resets and timeouts are judged apart from statuses: by [`Detectors::local_origin`] and by rates
    /// of their own. Otherwise they count as statuses 502 and 504, and [`Detectors::local_origin`] is not consulted.
    pub split_local_origin: bool,
    /// A successful probe of active health checks ends an ejection (Envoy's default).
    pub returns_on_probe: bool,
    /// What ejects an endpoint.
    pub detectors: Detectors,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 10_000,
            base_ejection_ms: 30_000,
            max_ejection_ms: 300_000,
            max_ejection_percent: 10,
            split_local_origin: false,
            returns_on_probe: false,
            detectors: Detectors::default(),
        }
    }
}

/// The detectors; those that are 0 or `None` are off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detectors {
    /// Responses with a status of 500 or more in a row.
    pub total: u32,
    /// Responses with status 502, 503 or 504 in a row.
    pub gateway: u32,
    /// Failures to connect, resets and timeouts in a row.
    pub local_origin: u32,
    /// An endpoint is worse than the others.
    pub success_rate: Option<SuccessRate>,
    /// An endpoint is worse than a fixed threshold.
    pub failure_percentage: Option<FailurePercentage>,
}

/// Ejects endpoints whose success rate of an interval is lower than the mean of all minus `stdev_factor` standard
/// deviations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuccessRate {
    /// Addresses with enough requests that the comparison needs.
    pub minimum_hosts: u32,
    /// Requests of an address in one interval from which its rate counts.
    pub request_volume: u32,
    /// Standard deviations below the mean.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub stdev_factor: f64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1.9 }
    }
}

/// Ejects endpoints whose share of failures in an interval reaches a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailurePercentage {
    /// Addresses with enough requests that the detector needs.
    pub minimum_hosts: u32,
    /// Requests of an address in one interval from which its share counts.
    pub request_volume: u32,
    /// Share of failures, in percent.
    pub threshold_percent: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 50, threshold_percent: 85 }
    }
}
