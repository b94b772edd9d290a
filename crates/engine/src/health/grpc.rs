//! `grpc.health.v1.Health/Check` over HTTP/2, by hand: the request is empty (the server as a whole is asked for), and
//! of the answer one field matters.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use cardinal_balance::{Probe, ProbeOutcome};
use cardinal_ir::ProbeKind;
use cardinal_net::Io;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::probe::{authority, broken};

/// A message that is not compressed, of no bytes: all fields have their defaults.
const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];
/// Most of an answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// `HealthCheckResponse.ServingStatus.SERVING`
const SERVING: u64 = 1;

/// Asks whether the server serves.
pub(super) async fn check(io: Io, probe: &Probe) -> ProbeOutcome {
    let (sender, connection) = match h2::client::handshake(io).await {
        Ok(pair) => pair,
        Err(error) => return outcome(&error),
    };
    let asking = pin!(ask(sender, probe));
    let driving = pin!(connection);
    match select(asking, driving).await {
        Either::Left((answer, _)) => answer.unwrap_or_else(|error| outcome(&error)),
        // The connection is over; what it brought may still answer.
        Either::Right((ended, asking)) => match finish(asking).await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => outcome(&error),
            None => ended.map_or_else(|error| outcome(&error), |()| ProbeOutcome::TcpFailure),
        },
    }
}

/// What a future has to say at once.
async fn finish<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// A connection that breaks, or an answer that makes no sense.
fn outcome(error: &h2::Error) -> ProbeOutcome {
    match error.get_io() {
        Some(error) => broken(error),
        None => ProbeOutcome::BadAnswer,
    }
}

async fn ask(sender: h2::client::SendRequest<Bytes>, probe: &Probe) -> Result<ProbeOutcome, h2::Error> {
    let mut sender = sender.ready().await?;
    let Some(request) = request(probe) else { return Ok(ProbeOutcome::TcpFailure) };
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
    let response = response.await?;
    if response.status() != 200 || !status_is_ok(response.headers()) {
        return Ok(ProbeOutcome::BadAnswer);
    }
    let mut body = response.into_body();
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        if message.len() + part.len() > ANSWER_BYTES_MAX {
            return Ok(ProbeOutcome::BadAnswer);
        }
        body.flow_control().release_capacity(part.len())?;
        message.extend_from_slice(&part);
    }
    let ended_well = body.trailers().await?.is_none_or(|trailers| status_is_ok(&trailers));
    let serving = ended_well && serving_status(&message) == Some(SERVING);
    Ok(if serving { ProbeOutcome::Success } else { ProbeOutcome::BadAnswer })
}

fn request(probe: &Probe) -> Option<Request<()>> {
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
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() =
        uri.inspect_err(|error| tracing::info!(%error, "a health probe has no valid authority")).ok()?;
    let headers = request.headers_mut();
    for (name, value) in &active.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        if let Some((name, value)) = field.filter(|(name, _)| !CONNECTION_FIELDS.contains(&name.as_str())) {
            headers.append(name, value);
        }
    }
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    Some(request)
}

/// What HTTP/2 does not allow (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [&str; 6] =
    ["host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whether `grpc-status`, if it is here, says OK.
fn status_is_ok(fields: &HeaderMap) -> bool {
    fields.get("grpc-status").is_none_or(|status| status == "0")
}

/// Field 1 of a `HealthCheckResponse` in its frame; `None` when it is none.
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
