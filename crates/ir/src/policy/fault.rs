//! [`Fault`]: faults that are injected to test how clients cope with them.

use serde::{Deserialize, Serialize};

/// Faults of requests. Each is decided about by a random draw of its own, the delay first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Requests are held back before anything else is done with them.
    pub delay: Option<FaultDelay>,
    /// Requests are answered with an error.
    pub abort: Option<FaultAbort>,
    /// Bodies of responses are slowed down.
    pub bandwidth: Option<FaultBandwidth>,
}

/// A delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultDelay {
    /// Milliseconds.
    pub delay_ms: u64,
    /// How many of 100 requests are delayed, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
}

/// An error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultAbort {
    /// The status.
    pub status: FaultStatus,
    /// How many of 100 requests are answered with it, 0 to 100.
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

/// A limit on the speed of a response body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultBandwidth {
    /// Bytes of body in each second; 0 counts as 1.
    pub bytes_per_second: u64,
    /// How many of 100 responses are slowed down, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
}
