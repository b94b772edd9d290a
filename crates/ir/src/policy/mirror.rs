//! [`Mirror`]: a copy of requests for another backend.

use serde::{Deserialize, Serialize};

use crate::Id;

/// A copy of requests goes to another backend, whose answers are discarded. It never delays a request or makes it fail. The
/// copy has the method, path, fields and body of the request as filters have left it; protocol upgrades are not copied.
/// The time limits are those of the backend with the route's overrides; their sum limits the whole exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// The backend.
    pub backend: Id,
    /// How many of the requests are copied, chosen at random: per cent, from 0 to 100.
    #[serde(serialize_with = "crate::binary::one_zero")]
    pub percent: f64,
    /// Requests with a longer body are not copied, bytes. Bodies are held in memory until they are complete.
    pub body_bytes_max: u64,
    /// Send the Host as it is. Otherwise `-shadow` is appended to its name, so that the backend can tell copies by it.
    pub keep_host: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self { backend: Id::nil(), percent: 100.0, body_bytes_max: 1 << 20, keep_host: false }
    }
}
