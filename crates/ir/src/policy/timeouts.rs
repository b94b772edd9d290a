//! [`Timeouts`] towards a backend.

use serde::{Deserialize, Serialize};

/// Timeouts towards a backend, milliseconds; 0 is off. Limits on the client's side (connections, request heads) are
/// among the limits of the node and of listeners instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// Connect timeout, including TLS.
    pub connect_ms: u64,
    /// Timeout between two successful reads from the upstream.
    pub read_ms: u64,
    /// Timeout between two successful writes to the upstream.
    pub write_ms: u64,
    /// From the end of the request to the end of the response, including all retries and their delays. Does not apply
    /// to established tunnels.
    pub request_ms: u64,
    /// No body byte was transferred in either direction, or no response head was received. For tunnels and TCP
    /// sessions, it replaces [`read_ms`](Self::read_ms) and [`write_ms`](Self::write_ms), which otherwise are their
    /// idle timeouts.
    pub idle_ms: u64,
    /// Maximum lifetime of a stream: a request with its response, a tunnel, a TCP session.
    pub stream_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 60_000, read_ms: 60_000, write_ms: 60_000, request_ms: 0, idle_ms: 0, stream_ms: 0 }
    }
}

/// Overrides of [`Timeouts`], milliseconds; 0 is off, an absent value changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeoutOverrides {
    /// Replaces [`Timeouts::connect_ms`].
    pub connect_ms: Option<u64>,
    /// Replaces [`Timeouts::read_ms`].
    pub read_ms: Option<u64>,
    /// Replaces [`Timeouts::write_ms`].
    pub write_ms: Option<u64>,
    /// Replaces [`Timeouts::request_ms`].
    pub request_ms: Option<u64>,
    /// Replaces [`Timeouts::idle_ms`].
    pub idle_ms: Option<u64>,
    /// Replaces [`Timeouts::stream_ms`].
    pub stream_ms: Option<u64>,
}

impl Timeouts {
    /// The timeouts with these overrides.
    #[must_use]
    pub fn overridden(self, by: &TimeoutOverrides) -> Self {
        Self {
            connect_ms: by.connect_ms.unwrap_or(self.connect_ms),
            read_ms: by.read_ms.unwrap_or(self.read_ms),
            write_ms: by.write_ms.unwrap_or(self.write_ms),
            request_ms: by.request_ms.unwrap_or(self.request_ms),
            idle_ms: by.idle_ms.unwrap_or(self.idle_ms),
            stream_ms: by.stream_ms.unwrap_or(self.stream_ms),
        }
    }

    /// Idle timeout of a tunnel or a TCP session, milliseconds; 0 is unlimited. Without [`idle_ms`](Self::idle_ms), one
    /// limit for both directions, as nginx's `proxy_timeout`.
    pub fn tunnel_idle_ms(&self) -> u64 {
        if self.idle_ms == 0 { self.read_ms.max(self.write_ms) } else { self.idle_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_single_values() {
        let by = TimeoutOverrides { request_ms: Some(5), read_ms: Some(0), ..TimeoutOverrides::default() };
        let backend = Timeouts { idle_ms: 7, ..Timeouts::default() };
        assert_eq!(backend.overridden(&by), Timeouts { request_ms: 5, read_ms: 0, ..backend });
        assert_eq!(backend.overridden(&TimeoutOverrides::default()), backend);
        let all = TimeoutOverrides {
            connect_ms: Some(1),
            read_ms: Some(2),
            write_ms: Some(3),
            request_ms: Some(4),
            idle_ms: Some(5),
            stream_ms: Some(6),
        };
        let expect = Timeouts { connect_ms: 1, read_ms: 2, write_ms: 3, request_ms: 4, idle_ms: 5, stream_ms: 6 };
        assert_eq!(backend.overridden(&all), expect);
    }

    #[test]
    fn silence_of_tunnels() {
        let timeouts = Timeouts { read_ms: 10, write_ms: 20, ..Timeouts::default() };
        assert_eq!(timeouts.tunnel_idle_ms(), 20);
        assert_eq!(Timeouts { idle_ms: 5, ..timeouts }.tunnel_idle_ms(), 5);
    }
}
