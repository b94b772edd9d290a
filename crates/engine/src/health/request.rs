//! Sends the request of a probe; shared by all kinds of probes.

use cardinal_balance::Probe;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The host of the request (Kong: the group's host header, or else the target's name, both unchanged).
pub(super) fn authority(probe: &Probe) -> &str {
    probe.settings.host_header.as_deref().unwrap_or(&probe.host)
}

/// The valid fields of the configuration.
pub(super) fn fields(probe: &Probe) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in &probe.settings.health.active.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some((name, value)) = field {
            fields.append(name, value);
        }
    }
    fields
}
