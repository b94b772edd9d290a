//! [`RateLimit`]: how many requests or connections are let through by this node.

use serde::{Deserialize, Serialize};

/// A limit that this node keeps by itself. Its counters are in memory that all workers share, and they outlive generations.
/// On listeners of streams connections are counted, by the address of the client or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimit {
    /// How it is counted.
    pub limiter: Limiter,
    /// What has a counter of its own.
    pub by: LimitBy,
    /// The status of refused requests, 100 to 599; 0 is 429.
    pub status: u16,
    /// The message of refused requests.
    pub message: Box<str>,
    /// Fields that replace those of the same name in the reply to refused requests.
    pub set_headers: Vec<(Box<str>, Box<str>)>,
    /// Fields that are added to the reply to refused requests.
    pub add_headers: Vec<(Box<str>, Box<str>)>,
    /// Responses say nothing about the limit (`RateLimit-*`, `X-RateLimit-*`, `Retry-After`). A [`Limiter::Bucket`] never
    /// adds them.
    pub hide_headers: bool,
}

/// How requests are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiter {
    /// In windows of the calendar. A request is refused when one of them is used up; only requests that pass are counted.
    Windows(Windows),
    /// By a bucket of tokens, one for each request.
    Bucket(TokenBucket),
}

impl Default for Limiter {
    fn default() -> Self {
        Self::Bucket(TokenBucket::default())
    }
}

/// Windows of the calendar, UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// The limits, one for each period at most.
    pub limits: Vec<RateWindow>,
    /// The share of the window before that still lies within the window's length counts as well.
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

/// A period of the calendar.
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

/// A bucket that is full at first and is filled with `tokens` tokens at the end of each interval, never over that number.
/// The default lets nothing through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenBucket {
    /// Requests or connections in each interval.
    pub tokens: u32,
    /// Length of the interval, milliseconds; 0 is one second.
    pub interval_ms: u64,
}

/// What has a counter of its own. A request without the property is counted by the address of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// All requests that the policy applies to are counted together.
    #[default]
    All,
    /// The address of the client.
    ClientAddress,
    /// The principal; a credential without a principal counts by itself.
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
