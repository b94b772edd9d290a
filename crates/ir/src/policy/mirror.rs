//! [`Mirror`]: copies of requests for another backend.

use serde::{Deserialize, Serialize};

use crate::Id;

/// Sends copies of requests to another backend, whose responses are discarded. Mirroring never delays a request or
/// makes it fail. The copy has the method, path, fields and body of the request after the filters; protocol upgrades
/// are not copied. The timeouts are those of the backend with the route's overrides; their sum limits the whole
/// exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// The backend.
    pub backend: Id,
    /// Percentage of requests that are copied, selected at random, 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
    /// Maximum body size, bytes; requests with a longer body are not copied. Bodies are buffered until they are
    /// complete.
    pub body_bytes_max: u64,
    /// Send the Host unchanged. Otherwise `-shadow` is appended to its name, so that the backend can identify copies.
    pub keep_host: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self { backend: Id::nil(), percent: 100.0, body_bytes_max: 1 << 20, keep_host: false }
    }
}
