//! Texts of Kong's errors, by failure kind.

use std::collections::BTreeMap;

use cardinal_http::FailureKind;

/// Kong's message for each failure.
pub(super) fn messages() -> BTreeMap<Box<str>, Box<str>> {
    FailureKind::ALL.iter().map(|kind| (kind.label().into(), message(*kind).into())).collect()
}

fn message(kind: FailureKind) -> &'static str {
    use FailureKind as F;
    match kind {
        F::BadRequest => "Bad request",
        F::HeadTooLarge => "Request header or cookie too large",
        F::UriTooLong => "URI too long",
        F::HeadTimeout | F::BodyTimeout | F::ClientTimeout => "Request timeout",
        F::BodyTooLarge => "Payload too large",
        F::ExpectationFailed => "Expectation failed",
        F::VersionNotSupported => "HTTP version not supported",
        F::ClientClosed => "Client closed request",
        F::ClientTls => "The plain HTTP request was sent to HTTPS port",
        F::NoRoute => "no Route matched with those values",
        F::NoBackend => "no Service found with those values",
        F::NoPeer => "failure to get a peer from the ring-balancer",
        F::NameResolution => "name resolution failed",
        F::Resolver | F::Filter | F::UnsendableHead => "An unexpected error occurred",
        F::UpstreamConnect | F::UpstreamTls | F::UpstreamReset | F::UpstreamProtocol => {
            "An invalid response was received from the upstream server"
        }
        F::UpstreamConnectTimeout | F::UpstreamTimeout | F::UpstreamWriteTimeout => "The upstream server is timing out",
        F::CircuitOpen | F::Overloaded | F::Draining => "The upstream server is currently unavailable",
    }
}
