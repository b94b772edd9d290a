//! The table of failures.

use cardinal_http::{FailureKind, Side};

use super::markdown::{code, table};

/// Each kind with its status, side, meaning and remedy.
pub(super) fn kinds() -> String {
    let rows = FailureKind::ALL.iter().map(|kind| {
        let side = match kind.side() {
            Side::Downstream => "client",
            Side::Upstream => "upstream",
            Side::Local => "node or configuration",
        };
        let (meaning, action) = explained(*kind);
        [code(kind.label()), kind.status().to_string(), side.to_owned(), meaning.to_owned(), action.to_owned()]
    });
    table(["kind", "status", "cause", "meaning", "first action"], rows)
}

/// The meaning of a kind, and the first remedy.
fn explained(kind: FailureKind) -> (&'static str, &'static str) {
    use FailureKind as F;
    match kind {
        F::BadRequest | F::HeadTooLarge | F::UriTooLong | F::VersionNotSupported | F::ExpectationFailed => head(kind),
        F::HeadTimeout | F::BodyTimeout | F::BodyTooLarge | F::ClientClosed | F::ClientTimeout | F::ClientTls => {
            client(kind)
        }
        F::UpstreamConnect
        | F::UpstreamConnectTimeout
        | F::UpstreamTls
        | F::UpstreamReset
        | F::UpstreamProtocol
        | F::UpstreamTimeout
        | F::UpstreamWriteTimeout => upstream(kind),
        F::NoRoute => (
            "No route matches the request.",
            "Ask `cardinal explain` why; compare host, path, method and headers with the routes.",
        ),
        F::NoBackend => {
            ("The route has no service, and no plugin responded.", "Give the route a service, or remove it.")
        }
        F::NoHealthyEndpoint => (
            "The upstream has no healthy target.",
            "Read the reason in the log line; check the targets and their health checks.",
        ),
        F::NameResolution => {
            ("The host name of the upstream does not resolve.", "Look the name up on the node; check `host`.")
        }
        F::Resolver => ("The name servers cannot be used.", "Check `dns_resolver` and `/etc/resolv.conf`."),
        F::Filter => (
            "A plugin failed, or an instance could not be built.",
            "Read the log line and the output of `cardinal check`; correct its configuration.",
        ),
        F::UnsendableHead => (
            "The head for the upstream has bytes that are not allowed.",
            "Correct the plugin or the service that sets the host, path or method.",
        ),
        F::CircuitOpen => (
            "A limit on connections or requests of the upstream is reached.",
            "Read which in the log line; look for slow targets, raise the limit, or add targets.",
        ),
        F::Overloaded => (
            "The node has reached a limit: memory for bodies, file descriptors, ports.",
            "Read which in the log line; raise the [limit](limits.md), or add a node.",
        ),
        F::Draining => {
            ("The node is shutting down.", "None, if a load balancer retries; otherwise raise `drain_timeout`.")
        }
    }
}

fn head(kind: FailureKind) -> (&'static str, &'static str) {
    use FailureKind as F;
    match kind {
        F::HeadTooLarge => (
            "The request head has too many bytes or fields.",
            "Look for large cookies; raise `client_max_head_size` or `client_max_headers`.",
        ),
        F::UriTooLong => ("The request line is too long.", "Raise `client_max_line_size`."),
        F::ExpectationFailed => ("`Expect` asks for something other than `100-continue`.", "Correct the client."),
        F::VersionNotSupported => ("The HTTP version is not 1.0, 1.1 or 2.", "Correct the client."),
        _ => (
            "The request is not valid HTTP, or is ambiguous.",
            "Read the reason in the log line; correct the client, see below.",
        ),
    }
}

fn client(kind: FailureKind) -> (&'static str, &'static str) {
    use FailureKind as F;
    match kind {
        F::HeadTimeout => (
            "The request head did not arrive in time.",
            "Nothing for single ones: a slow client or a scanner; raise `client_head_timeout` for many.",
        ),
        F::BodyTimeout => {
            ("The request body did not arrive in time.", "Check the client's network; raise `client_body_timeout`.")
        }
        F::BodyTooLarge => (
            "The request body is over a limit.",
            "Raise `client_max_body_size`, `body_buffer_max` or the plugin's limit.",
        ),
        F::ClientClosed => (
            "The client closed the connection before the response was complete.",
            "Nothing for single ones; for many, compare the client's timeout with the latency of the upstream.",
        ),
        F::ClientTimeout => {
            ("The client did not read its response in time.", "Check the client; raise `client_send_timeout`.")
        }
        _ => (
            "The TLS handshake failed, or plain HTTP was sent to a TLS port.",
            "Read the reason in the log line; check TLS versions and certificates.",
        ),
    }
}

fn upstream(kind: FailureKind) -> (&'static str, &'static str) {
    use FailureKind as F;
    match kind {
        F::UpstreamConnect => {
            ("No connection to the upstream.", "Check that the target runs and listens on the address in the log line.")
        }
        F::UpstreamConnectTimeout => (
            "The upstream did not accept a connection in time.",
            "Check firewalls and the target's load; raise `connect_timeout` of the service.",
        ),
        F::UpstreamTls => (
            "The TLS handshake with the upstream failed.",
            "Read the reason in the log line; see TLS with upstreams below.",
        ),
        F::UpstreamReset => (
            "The upstream closed the connection before the response was complete.",
            "Read the log of the upstream; compare its keep-alive timeout with `upstream_keepalive_idle_timeout`.",
        ),
        F::UpstreamTimeout => (
            "The upstream did not respond in time, or the exchange reached a limit of its route.",
            "Check its latency; raise the timeout that the log names, such as `read_timeout` of the service.",
        ),
        F::UpstreamWriteTimeout => {
            ("The upstream did not read the request in time.", "Check its load; raise `write_timeout` of the service.")
        }
        _ => (
            "The upstream sent something that is not valid HTTP.",
            "Check `protocol` and `port` of the service; raise `upstream_max_head_size` for large heads.",
        ),
    }
}
