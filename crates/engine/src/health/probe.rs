//! A single health probe: TCP, HTTP(S) or gRPC.

use std::time::Duration;

use bytes::Bytes;
use cardinal_balance::{Probe, ProbeOutcome};
use cardinal_base::{descriptors, timeout};
use cardinal_ir::ProbeKind;
use cardinal_net::{Connected, Io, Stage, TlsTarget, connect};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request};
use http_body_util::Full;
use rustls::pki_types::ServerName;

use super::grpc;
use super::prober::Prober;
use super::request::{authority, fields};
use crate::http_client::{self, Cause, Connection};

/// The outcome of a probe, with details if there are any.
pub(super) type Outcome = (ProbeOutcome, Option<String>);

/// Runs a probe. The time limit applies separately to connecting (including TLS) and to the exchange. Kong applies it
/// to each step, so that a slow server that responds stays healthy.
///
/// Returns the outcome, with details if there are any.
pub(super) async fn run(prober: &Prober, probe: &Probe) -> Outcome {
    let limit_ms = probe.settings.health.active.timeout_ms;
    let late = |what: &str| (ProbeOutcome::Timeout, Some(format!("{what} within timeout {limit_ms} ms")));
    let kind = probe.settings.health.active.kind;
    let tls = match kind {
        ProbeKind::Tcp | ProbeKind::Http | ProbeKind::Grpc => None,
        ProbeKind::Https | ProbeKind::Grpcs => {
            let config = match prober.tls(probe, kind == ProbeKind::Grpcs) {
                Ok(config) => config,
                Err(outcome) => return (outcome, Some("probes cannot use TLS".to_owned())),
            };
            let Some(server_name) = server_name(probe) else {
                return (ProbeOutcome::TcpFailure, Some("no TLS server name".to_owned()));
            };
            Some(TlsTarget { config, server_name })
        }
    };
    let stage = Stage::default();
    let connected = match within(prober, probe, connect(probe.address, None, tls.as_ref(), &stage)).await {
        Some(Ok(connected)) => connected,
        Some(Err(error)) => {
            let outcome =
                if descriptors::is_local(error.io()) { ProbeOutcome::NotRun } else { ProbeOutcome::TcpFailure };
            return (outcome, Some(error.to_string()));
        }
        None => return late(stage.missing()),
    };
    let Connected { io, h2, .. } = connected;
    let outcome = match kind {
        ProbeKind::Tcp => return (ProbeOutcome::Success, None),
        ProbeKind::Http | ProbeKind::Https => within(prober, probe, http(io, probe)).await,
        ProbeKind::Grpcs if !h2 => return (ProbeOutcome::BadAnswer, Some("ALPN did not choose h2".to_owned())),
        ProbeKind::Grpc | ProbeKind::Grpcs => within(prober, probe, grpc::check(io, probe)).await,
    };
    match outcome {
        None => late("no response"),
        Some(Ok(outcome)) => (outcome, None),
        Some(Err(cause)) => failed(&cause),
    }
}

/// The outcome when there is no response.
fn failed(cause: &Cause) -> Outcome {
    let outcome = match cause {
        Cause::Io { is_local: true, .. } => ProbeOutcome::NotRun,
        Cause::Io { .. } | Cause::Closed => ProbeOutcome::TcpFailure,
        Cause::Answer(_) | Cause::TooLarge => ProbeOutcome::BadAnswer,
    };
    (outcome, Some(cause.to_string()))
}

async fn within<T>(prober: &Prober, probe: &Probe, step: impl Future<Output = T>) -> Option<T> {
    let limit = Duration::from_millis(probe.settings.health.active.timeout_ms.max(1));
    timeout(&*prober.node.services.clock, limit, step).await.ok()
}

/// The server name to send and to verify: `sni`, or else the name of the endpoint.
fn server_name(probe: &Probe) -> Option<ServerName<'static>> {
    let name = probe.settings.health.active.sni.as_deref().unwrap_or(&probe.host);
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned())
        .inspect_err(|_| tracing::info!(name, "not a valid TLS server name for health probes"))
        .ok()
}

/// Checks the status of a response; the body is not read.
async fn http(io: Io, probe: &Probe) -> Result<ProbeOutcome, Cause> {
    let mut request = Request::new(Full::new(Bytes::new()));
    let unsendable = |what| Cause::Answer(format!("the probe cannot be sent: {what}"));
    *request.uri_mut() = http_client::target(&probe.settings.health.active.path).map_err(unsendable)?.into();
    let mut fields = fields(probe);
    // The request has no body, regardless of the configured fields.
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRANSFER_ENCODING);
    if !fields.contains_key(HOST) {
        let host = HeaderValue::from_str(authority(probe)).map_err(|_| unsendable("its Host is invalid"))?;
        fields.insert(HOST, host);
    }
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    *request.headers_mut() = fields;
    let mut connection = Connection::http1(io).await.map_err(|failed| failed.cause)?;
    let response = connection.request(request).await.map_err(|failed| failed.cause)?;
    Ok(ProbeOutcome::Status(response.status().as_u16()))
}
