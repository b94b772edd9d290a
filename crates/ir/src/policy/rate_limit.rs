//! [`RateLimit`]: limits the requests or connections of this node.

use serde::{Deserialize, Serialize};

/// A limit local to this node. Its counters are shared by all workers and kept across generations. On stream listeners,
/// connections are counted, by client address or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimit {
    /// The algorithm.
    pub limiter: Limiter,
    /// The property by which requests are counted separately.
    pub by: LimitBy,
    /// The status of rejected requests, 100 to 599; 0 is 429.
    pub status: u16,
    /// The message of rejected requests.
    pub message: Box<str>,
    /// Fields that replace those with the same name in the reply to rejected requests.
    pub set_headers: Vec<(Box<str>, Box<str>)>,
    /// Fields that are added to the reply to rejected requests.
    pub add_headers: Vec<(Box<str>, Box<str>)>,
    /// Do not add headers about the limit to responses (`RateLimit-*`, `X-RateLimit-*`, `Retry-After`). A
    /// [`Limiter::Bucket`] never adds them.
    pub hide_headers: bool,
}

/// The counting algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiter {
    /// Calendar windows. A request is rejected if one of them is used up; only accepted requests are counted.
    Windows(Windows),
    /// A token bucket; each request takes one token.
    Bucket(TokenBucket),
}

impl Default for Limiter {
    fn default() -> Self {
        Self::Bucket(TokenBucket::default())
    }
}

/// Calendar windows, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// The limits, at most one per period.
    pub limits: Vec<RateWindow>,
    /// Sliding windows: the overlapping share of the previous window is counted, too.
    pub sliding: bool,
}

/// The limit of a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateWindow {
    /// The period.
    pub period: RatePeriod,
    /// Requests in a period.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub limit: f64,
}

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatePeriod {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// A bucket that starts full and is refilled with `tokens` tokens at the end of each interval, up to that number. The
/// default rejects everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenBucket {
    /// Requests or connections per interval.
    pub tokens: u32,
    /// Length of the interval, milliseconds; 0 is one second.
    pub interval_ms: u64,
}

/// The property by which requests are counted separately. A request without the property is counted by its client
/// address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// All requests to which the policy applies are counted together.
    #[default]
    All,
    /// The client address.
    ClientAddress,
    /// The principal; a credential without a principal is counted separately.
    Principal,
    /// The credential.
    Credential,
    /// The backend.
    Backend,
    /// The value of this request header.
    Header(Box<str>),
    /// This path: requests for it are counted together.
    Path(Box<str>),
}
