//! Outlier detection: ejects endpoints with failing responses.

use serde::{Deserialize, Serialize};

/// Endpoints that fail real traffic are ejected: they receive no requests for a while, and return automatically.
///
/// An ejection lasts [`base_ejection_ms`](Self::base_ejection_ms) times the number of consecutive ejections, at most
/// [`max_ejection_ms`](Self::max_ejection_ms); each interval without an ejection reduces that number by one. Ejections
/// are independent of health checks: an endpoint receives requests if it is healthy and not ejected. An ejected
/// endpoint is unavailable for [`LocalityPolicy`](super::LocalityPolicy), whose panic threshold may still use it, and
/// for [`HealthChecks::threshold_percent`](crate::HealthChecks::threshold_percent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutlierDetection {
    /// Whether outlier detection is enabled. When it is disabled, all ejected endpoints return.
    pub enabled: bool,
    /// Interval between evaluations of success rates and of ended ejections, milliseconds.
    pub interval_ms: u64,
    /// Duration of a first ejection, milliseconds.
    pub base_ejection_ms: u64,
    /// Maximum duration of an ejection, milliseconds; the base duration if that is longer.
    pub max_ejection_ms: u64,
    /// Maximum percentage of addresses of the cluster that are ejected at once. Unless this is 0, one address may
    /// always be ejected (Envoy's rule), so that small clusters are protected, too.
    pub max_ejection_percent: u32,
    /// Evaluate failures to connect, resets and timeouts separately from statuses: by [`Detectors::local_origin`] and
    /// by separate rates. Otherwise they count as statuses 502 and 504, and [`Detectors::local_origin`] is ignored.
    pub split_local_origin: bool,
    /// A successful probe of active health checks ends an ejection (Envoy's default).
    pub returns_on_probe: bool,
    /// The conditions for an ejection.
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
    /// Consecutive responses with a status of 500 or more.
    pub total: u32,
    /// Consecutive responses with status 502, 503 or 504.
    pub gateway: u32,
    /// Consecutive failures to connect, resets and timeouts.
    pub local_origin: u32,
    /// Comparison with the other endpoints.
    pub success_rate: Option<SuccessRate>,
    /// Comparison with a fixed threshold.
    pub failure_percentage: Option<FailurePercentage>,
}

/// Ejects endpoints whose success rate in an interval is lower than the mean of all minus `stdev_factor` standard
/// deviations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuccessRate {
    /// Minimum number of addresses with enough requests.
    pub minimum_hosts: u32,
    /// Minimum number of requests of an address in one interval.
    pub request_volume: u32,
    /// Number of standard deviations below the mean.
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
    /// Minimum number of addresses with enough requests.
    pub minimum_hosts: u32,
    /// Minimum number of requests of an address in one interval.
    pub request_volume: u32,
    /// Share of failures, in percent.
    pub threshold_percent: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 50, threshold_percent: 85 }
    }
}
