//! [`Fault`]: fault injection, for testing clients.

use serde::{Deserialize, Serialize};

/// Faults injected into requests. Each kind is drawn at random independently, the delay first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Delays requests before they are processed further.
    pub delay: Option<FaultDelay>,
    /// Replies to requests with an error.
    pub abort: Option<FaultAbort>,
    /// Slows down response bodies.
    pub bandwidth: Option<FaultBandwidth>,
}

/// A delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultDelay {
    /// Milliseconds.
    pub delay_ms: u64,
    /// Percentage of requests that are delayed, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
}

/// An error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultAbort {
    /// The status.
    pub status: FaultStatus,
    /// Percentage of requests that receive the error, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
}

/// The status of an injected error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStatus {
    /// An HTTP status, 200 to 599.
    Http(u16),
    /// A gRPC status, 0 to 16, in a response of HTTP status 200.
    Grpc(u8),
}

impl Default for FaultStatus {
    fn default() -> Self {
        Self::Http(503)
    }
}

/// A rate limit on a response body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultBandwidth {
    /// Body bytes per second; 0 is treated as 1.
    pub bytes_per_second: u64,
    /// Percentage of responses that are slowed down, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
}
