//! One probe, in each of its kinds.

use std::time::Duration;

use cardinal_balance::{Probe, ProbeOutcome};
use cardinal_base::descriptors;
use cardinal_http::{HeaderList, Name};
use cardinal_ir::ProbeKind;
use cardinal_net::{Connected, Io, Stage, TlsTarget, connect};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Prober, grpc};

/// Longest status line.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What a path cannot have in a request line; escapes that are there stay.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'#');

/// Runs a probe. Its limit holds for connecting, TLS included, and again for the exchange: Kong's holds for each
/// step, so that what is slow but answers stays healthy.
///
/// With the outcome comes more about it, where there is more to say.
pub(super) async fn run(prober: &Prober, probe: &Probe) -> (ProbeOutcome, Option<String>) {
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
    let connected = match within(probe, connect(probe.address, None, tls.as_ref(), &stage)).await {
        Some(Ok(connected)) => connected,
        Some(Err(error)) => return (broken(error.io()), Some(error.to_string())),
        None => return late(stage.missing()),
    };
    let Connected { io, h2, .. } = connected;
    let outcome = match kind {
        ProbeKind::Tcp => return (ProbeOutcome::Success, None),
        ProbeKind::Http | ProbeKind::Https => within(probe, http(io, probe)).await,
        ProbeKind::Grpcs if !h2 => return (ProbeOutcome::BadAnswer, Some("ALPN did not choose h2".to_owned())),
        ProbeKind::Grpc | ProbeKind::Grpcs => within(probe, grpc::check(io, probe)).await,
    };
    outcome.map_or_else(|| late("no response"), |outcome| (outcome, None))
}

async fn within<T>(probe: &Probe, step: impl Future<Output = T>) -> Option<T> {
    let limit = Duration::from_millis(probe.settings.health.active.timeout_ms.max(1));
    tokio::time::timeout(limit, step).await.ok()
}

/// The name to ask for and to verify: `sni`, else the endpoint's.
fn server_name(probe: &Probe) -> Option<ServerName<'static>> {
    let name = probe.settings.health.active.sni.as_deref().unwrap_or(&probe.host);
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned())
        .inspect_err(|_| tracing::info!(name, "not a valid TLS server name for health probes"))
        .ok()
}

/// What an error of a connection says of the target.
pub(super) fn broken(error: &std::io::Error) -> ProbeOutcome {
    if descriptors::is_local(error) { ProbeOutcome::NotRun } else { ProbeOutcome::TcpFailure }
}

/// Whom the request is for (Kong: the group's host header, else the target's name, in both cases as it is).
pub(super) fn authority(probe: &Probe) -> &str {
    probe.settings.host_header.as_deref().unwrap_or(&probe.host)
}

/// Path and query to ask for.
pub(super) fn path(probe: &Probe) -> String {
    let path: &str = &probe.settings.health.active.path;
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{slash}{}", utf8_percent_encode(path, NOT_IN_PATH))
}

async fn http(mut io: Io, probe: &Probe) -> ProbeOutcome {
    let mut fields = HeaderList::new();
    for (name, value) in &probe.settings.health.active.headers {
        // The request has no body, whatever is configured.
        if !matches!(Name::of(name.as_bytes()), Name::ContentLength | Name::TransferEncoding) {
            fields.append(name.as_bytes(), value.as_bytes());
        }
    }
    if !fields.contains(b"host") {
        fields.append(b"Host", authority(probe).as_bytes());
    }
    fields.set(b"Connection", b"close");
    let mut request = format!("GET {} HTTP/1.1\r\n", path(probe)).into_bytes();
    fields.write_h1(&mut request);
    request.extend_from_slice(b"\r\n");
    if let Err(error) = io.write_all(&request).await {
        return broken(&error);
    }
    if let Err(error) = io.flush().await {
        return broken(&error);
    }
    let mut seen = Vec::with_capacity(1_024);
    loop {
        if let Some(end) = seen.iter().position(|b| *b == b'\n') {
            let status = status(seen.get(..end).unwrap_or_default());
            return status.map_or(ProbeOutcome::BadAnswer, ProbeOutcome::Status);
        }
        if seen.len() > LINE_BYTES_MAX {
            return ProbeOutcome::BadAnswer;
        }
        match io.read_buf(&mut seen).await {
            Ok(0) => return ProbeOutcome::TcpFailure,
            Ok(_) => {}
            Err(error) => return broken(&error),
        }
    }
}

/// The status of a status line, read as leniently as Kong does: the reason may be missing, the version be any.
fn status(line: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(line.get(..32).unwrap_or(line));
    let (version, rest) = line.split_once([' ', '\t'])?;
    let (protocol, number) = version.split_at_checked(5)?;
    let (major, minor) = number.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let known = protocol.eq_ignore_ascii_case("HTTP/") && digits(major) && digits(minor);
    rest.get(..end).filter(|_| known)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read_leniently() {
        for (line, expect) in [
            ("HTTP/1.1 200 OK\r", Some(200)),
            ("HTTP/1.0 503\r", Some(503)),
            ("http/1.1  204 No Content", Some(204)),
            ("HTTP/2.0 418 x", Some(418)),
            ("HTTP/1.1 99999999 x", None),
            ("HTTP/1.1 x", None),
            ("HTTP/1.1", None),
            ("HTTP/1 200 OK", None),
            ("HTTP/.1 200 OK", None),
            ("ICY 200 OK", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), expect, "{line:?}");
        }
        assert_eq!(status(&[b'H', 0xff, b' ']), None);
        let long = format!("HTTP/1.1 200 {}", "é".repeat(100));
        assert_eq!(status(long.as_bytes()), Some(200));
    }
}
