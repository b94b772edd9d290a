//! Typed policies: plain data, one file each. The engine has one implementation of each, whichever front end it came
//! from.

mod circuit;
mod locality;
mod outlier;

pub use circuit::CircuitLimits;
pub use locality::{Affinity, FailoverRule, LocalityPolicy, SubsetFallback, Unlisted, ZonePreference, ZoneSet};
pub use outlier::{Detectors, FailurePercentage, OutlierDetection, SuccessRate};
