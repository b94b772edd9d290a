//! Errors of connecting to an upstream.

use std::io::ErrorKind;

use cardinal_http::{Failure, FailureKind, Retry};
use cardinal_net::{ConnectError, Stage};

/// Converts an error. If the node is out of descriptors, memory or ports, the failure does not count against the
/// endpoint.
pub(crate) fn connect_failure(error: ConnectError) -> Failure {
    let kind = match &error {
        error if error.is_local() => FailureKind::Overloaded,
        ConnectError::Tcp { .. } => FailureKind::UpstreamConnect,
        ConnectError::Tls { .. } => FailureKind::UpstreamTls,
    };
    // Another address may still have a free port; a shortage of descriptors or memory affects all addresses.
    let elsewhere = kind != FailureKind::Overloaded || error.io().kind() == ErrorKind::AddrNotAvailable;
    let retry = if elsewhere { Retry::Safe } else { Retry::Never };
    Failure::new(kind, "no connection to the upstream").with_source(error).with_retry(retry)
}

/// The failure for a connect timeout.
pub(crate) fn connect_timeout(limit_ms: u64, stage: &Stage) -> Failure {
    let detail = if stage.is_handshake() {
        "connected to the upstream, but the TLS handshake was not finished"
    } else {
        "no connection to the upstream"
    };
    let failure = Failure::new(FailureKind::UpstreamConnectTimeout, detail);
    failure.within("connect_timeout", limit_ms).with_retry(Retry::Safe)
}
