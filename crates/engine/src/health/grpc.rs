//! `grpc.health.v1.Health/Check`: the request is empty (it checks the server as a whole), and only the field `status`
//! of the response matters.

use bytes::Bytes;
use cardinal_balance::{Probe, ProbeOutcome};
use cardinal_ir::ProbeKind;
use cardinal_net::Io;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use super::request::{authority, fields};
use crate::http_client::{Cause, Connection};

/// The frame of an uncompressed empty message: all fields have their default values.
const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];
/// Maximum size of a response, bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
/// `HealthCheckResponse.ServingStatus.SERVING`
const SERVING: u64 = 1;

/// Performs the health check call.
pub(super) async fn check(io: Io, probe: &Probe) -> Result<ProbeOutcome, Cause> {
    let Some(request) = request(probe) else { return Ok(ProbeOutcome::TcpFailure) };
    let mut connection = Connection::http2(io).await.map_err(|failed| failed.cause)?;
    let response = connection.request(request).await.map_err(|failed| failed.cause)?;
    if response.status() != StatusCode::OK || !status_is_ok(response.headers()) {
        return Ok(ProbeOutcome::BadAnswer);
    }
    let reply = connection.read(response, ANSWER_BYTES_MAX).await.map_err(|failed| failed.cause)?;
    let serving = status_is_ok(&reply.trailers) && serving_status(&reply.body) == Some(SERVING);
    Ok(if serving { ProbeOutcome::Success } else { ProbeOutcome::BadAnswer })
}

fn request(probe: &Probe) -> Option<Request<Full<Bytes>>> {
    let active = &probe.settings.health.active;
    let scheme = if active.kind == ProbeKind::Grpcs { "https" } else { "http" };
    let authority = authority(probe);
    let authority = if authority.contains(':') && !authority.starts_with('[') && probe.settings.host_header.is_none() {
        // An IPv6 address.
        format!("[{authority}]")
    } else {
        authority.to_owned()
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/grpc.health.v1.Health/Check").build();
    let mut request = Request::new(Full::new(Bytes::from_static(EMPTY_MESSAGE)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        uri.inspect_err(|error| tracing::info!(%error, "a health probe has no valid authority")).ok()?;
    let mut fields = fields(probe);
    for name in NOT_IN_HTTP2 {
        fields.remove(name);
    }
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    *request.headers_mut() = fields;
    Some(request)
}

/// Connection-specific fields, which HTTP/2 does not allow (RFC 9113 section 8.2.2), and fields that hyper derives from
/// the request.
const NOT_IN_HTTP2: [&str; 7] =
    ["host", "connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whether `grpc-status`, if present, is OK.
fn status_is_ok(fields: &HeaderMap) -> bool {
    fields.get("grpc-status").is_none_or(|status| status == "0")
}

/// Field 1 of a `HealthCheckResponse` in its frame; `None` if the frame is malformed.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let (flag, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *flag != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let key;
        (key, rest) = varint(rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => (status, rest) = varint(rest)?,
            (_, 0) => (_, rest) = varint(rest)?,
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let (length, after) = varint(rest)?;
                rest = after.get(usize::try_from(length).ok()?..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(at * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (&[0, 0, 0, 0, 2, 0x08, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 0x08, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Fields that later versions may have.
            (&[0, 0, 0, 0, 8, 0x12, 2, b'a', b'b', 0x08, 1, 0x18, 0x05], Some(1)),
            (&[1, 0, 0, 0, 2, 0x08, 1], None),
            (&[0, 0, 0, 0, 3, 0x08, 1], None),
            (&[0, 0, 0, 0, 2, 0x08, 0x80], None),
            (&[0, 0, 0, 0, 2, 0x12, 9], None),
            (&[0, 0, 0], None),
            (&[], None),
        ];
        for (bytes, expect) in cases {
            assert_eq!(serving_status(bytes), expect, "{bytes:?}");
        }
        assert_eq!(varint(&[0xff; 12]), None);
        assert_eq!(varint(&[0xac, 0x02]), Some((300, &[][..])));
    }
}
