//! What requests of all kinds of probes have in common.

use cardinal_balance::Probe;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The host that the request is for (Kong: the group's host header, else the target's name, in both cases as it is).
pub(super) fn authority(probe: &Probe) -> &str {
    probe.settings.host_header.as_deref().unwrap_or(&probe.host)
}

/// The configured fields that can be sent.
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
