//! Texts of Kong's errors: templates by media type, messages by failure kind.

use std::collections::BTreeMap;

use cardinal_http::FailureKind;

pub(super) const JSON: &str = "{\n  \"message\":\"{{message}}\",\n  \"request_id\":\"{{request_id}}\"\n}";

pub(super) const PLAIN: &str = "{{message}}\nrequest_id: {{request_id}}\n";

pub(super) const HTML: &str = "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>{{message}}.</p>\n    <p>request_id: {{request_id}}</p>\n  </body>\n</html>\n";

pub(super) const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{{message}}</message>\n  <requestid>{{request_id}}</requestid>\n</error>\n";

/// Replies to requests that are not what their route requires, by the labels that the engine looks for.
const REQUIREMENTS: [(&str, &str); 5] = [
    ("method_refused", "Method not allowed"),
    ("tls_required", "Please use HTTPS protocol"),
    ("http2_required", "Please use HTTP2 protocol"),
    ("grpc_required", "Non-gRPC request matched gRPC route"),
    ("grpc_tls_required", "gRPC request matched gRPCs route"),
];

/// Kong's message for each failure.
pub(super) fn messages() -> BTreeMap<Box<str>, Box<str>> {
    let failures = FailureKind::ALL.iter().map(|kind| (kind.label(), message(*kind)));
    failures.chain(REQUIREMENTS).map(|(label, text)| (label.into(), text.into())).collect()
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
        F::NoHealthyEndpoint => "failure to get a peer from the ring-balancer",
        F::NameResolution => "name resolution failed",
        F::Resolver | F::Filter | F::UnsendableHead => "An unexpected error occurred",
        F::UpstreamConnect | F::UpstreamTls | F::UpstreamReset | F::UpstreamProtocol => {
            "An invalid response was received from the upstream server"
        }
        F::UpstreamConnectTimeout | F::UpstreamTimeout | F::UpstreamWriteTimeout => "The upstream server is timing out",
        F::CircuitOpen | F::Overloaded | F::Draining => "The upstream server is currently unavailable",
    }
}
