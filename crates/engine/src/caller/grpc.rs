//! Unary gRPC calls over HTTP/2 with keep-alive connections.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::{BufMut as _, Bytes, BytesMut};
use cardinal_base::{Tick, task};
use cardinal_net::dns::Dns;
use cardinal_sdk::{CallError, GrpcCall, GrpcReply};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::failure::{EndOnDrop, failed, transport};
use super::idle::Key;
use super::url::Url;
use crate::connector::{ConnectFailure, Connector, Tls, Trust};

/// Maximum number of concurrent calls; further calls wait, within their own time limits.
const CALLS_MAX: usize = 256;
/// Maximum number of servers with a cached connection.
const KEPT_MAX: usize = 64;
/// How long a connection is kept for the next call.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Maximum header list size of a response, bytes.
const HEADER_LIST_MAX: u32 = 64 * 1024;

/// `grpc-status` values that HTTP statuses map to.
const UNKNOWN: u32 = 2;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

/// Makes gRPC calls.
pub(super) struct GrpcCaller {
    connector: Connector,
    kept: Mutex<HashMap<Key, Kept>>,
    calls: Semaphore,
}

struct Kept {
    sender: SendRequest<Bytes>,
    used: Tick,
}

impl GrpcCaller {
    pub(super) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        let connector = Connector::new(dns, trust, &[b"h2"]);
        Self { connector, kept: Mutex::default(), calls: Semaphore::new(CALLS_MAX) }
    }

    /// Makes a call on this runtime, regardless of the runtime that awaits it. Dropping the future cancels the call.
    pub(super) fn start(
        self: Arc<Self>,
        call: GrpcCall,
        runtime: Handle,
    ) -> Pin<Box<dyn Future<Output = Result<GrpcReply, CallError>> + Send>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let running = {
                let _entered = runtime.enter();
                EndOnDrop(task::spawn("gRPC call", async move {
                    let clock = self.connector.clock();
                    let limited = cardinal_base::timeout(&**clock, call.timeout, self.call(&call)).await;
                    // Sending fails if the caller has stopped waiting.
                    answer.send(limited.unwrap_or(Err(CallError::Timeout))).ok();
                }))
            };
            let outcome = answered.await;
            drop(running);
            outcome.unwrap_or_else(|_| Err(transport("the node is stopping")))
        })
    }

    async fn call(&self, call: &GrpcCall) -> Result<GrpcReply, CallError> {
        let bad_url = |reason| CallError::Url { url: call.url.clone(), reason };
        let url = Url::parse(&call.url).map_err(bad_url)?;
        let request = request(call).ok_or_else(|| bad_url("it is not the URL of a gRPC method"))?;
        let key = Key::of(&url, call.insecure, &self.connector);
        let _place = self.calls.acquire().await.map_err(|_| transport("the node is stopping"))?;
        let sender = match self.take(&key) {
            // The server may have closed the connection meanwhile.
            Some(kept) => kept.ready().await.ok(),
            None => None,
        };
        let sender = match sender {
            Some(sender) => sender,
            None => self.connect(&url, call.insecure).await?,
        };
        let mut used = sender.clone();
        let reply = exchange(&mut used, request, call).await?;
        self.keep(key, sender);
        Ok(reply)
    }

    fn take(&self, key: &Key) -> Option<SendRequest<Bytes>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.connector.clock().tick();
        kept.retain(|_, kept| now.since(kept.used) < KEPT_FOR);
        kept.remove(key).map(|kept| kept.sender)
    }

    /// Keeps a connection after a response for the next call.
    fn keep(&self, key: Key, sender: SendRequest<Bytes>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX || kept.contains_key(&key) {
            kept.insert(key, Kept { sender, used: self.connector.clock().tick() });
        }
    }

    async fn connect(&self, url: &Url<'_>, insecure: bool) -> Result<SendRequest<Bytes>, CallError> {
        let tls = url.tls.then_some(Tls { verify: !insecure, server_name: url.host });
        let connected = self.connector.connect(url.host, url.port, tls).await;
        let connected = connected.map_err(|ConnectFailure { is_local, reason }| failed(is_local, reason))?;
        if url.tls && !connected.h2 {
            return Err(transport("the server does not speak HTTP/2"));
        }
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).max_header_list_size(HEADER_LIST_MAX);
        let (sender, connection) = builder.handshake(connected.io).await.map_err(|error| broken(&error))?;
        // The task ends with the connection, or when the last sender is dropped.
        drop(task::spawn("gRPC connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "gRPC connection ended");
            }
        }));
        sender.ready().await.map_err(|error| broken(&error))
    }
}

fn broken(error: &h2::Error) -> CallError {
    let is_local = error.get_io().is_some_and(cardinal_base::descriptors::is_local);
    failed(is_local, error.to_string())
}

/// Sends the message and reads the response.
async fn exchange(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
    call: &GrpcCall,
) -> Result<GrpcReply, CallError> {
    let failed = |error: h2::Error| broken(&error);
    let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
    let length = u32::try_from(call.message.len()).map_err(|_| transport("the message is too large for gRPC"))?;
    let mut framed = BytesMut::with_capacity(5 + call.message.len());
    framed.put_u8(u8::from(call.gzip));
    framed.put_u32(length);
    framed.put_slice(&call.message);
    body.send_data(framed.freeze(), true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    let status = response.status().as_u16();
    let (parts, mut body) = response.into_parts();
    let mut framed = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(failed)?;
        if framed.len() + part.len() > call.message_max.saturating_add(5) {
            return Err(CallError::TooLarge(call.message_max as u64));
        }
        body.flow_control().release_capacity(part.len()).map_err(failed)?;
        framed.extend_from_slice(&part);
    }
    let trailers = body.trailers().await.map_err(failed)?;
    Ok(reply(status, trailers.as_ref().unwrap_or(&parts.headers), &framed))
}

/// Builds the reply from the final fields and the body of a response.
fn reply(http_status: u16, fields: &HeaderMap, framed: &[u8]) -> GrpcReply {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let Some(status) = text("grpc-status").and_then(|status| status.parse().ok()) else {
        return of_http(http_status);
    };
    let reason = text("grpc-message").unwrap_or_default();
    let details = text("grpc-status-details-bin").unwrap_or_default();
    let details = STANDARD_NO_PAD.decode(details).or_else(|_| STANDARD.decode(details)).unwrap_or_default();
    let message = match (status, unframe(framed)) {
        (0, None) if !framed.is_empty() => {
            return GrpcReply {
                status: INTERNAL,
                reason: "the answer is no message".to_owned(),
                ..GrpcReply::default()
            };
        }
        (_, message) => message.map(Bytes::copy_from_slice).unwrap_or_default(),
    };
    GrpcReply {
        status,
        reason: percent_decode_str(reason).decode_utf8_lossy().into_owned(),
        details: details.into(),
        message,
    }
}

/// The only message of a response. It is not compressed, because the call does not offer compression.
fn unframe(framed: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = framed.split_first_chunk::<5>()?;
    let [0, a, b, c, d] = *prefix else { return None };
    (usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()? == message.len()).then_some(message)
}

/// The reply for a response without `grpc-status`, which comes from a proxy.
fn of_http(status: u16) -> GrpcReply {
    let code = match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    };
    GrpcReply { status: code, reason: format!("HTTP status {status} without grpc-status"), ..GrpcReply::default() }
}

/// Protocol fields, which metadata cannot set.
const OURS: [&str; 11] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "content-type",
    "content-length",
    "grpc-timeout",
    "grpc-encoding",
];

fn request(call: &GrpcCall) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = call.url.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    for (name, value) in call.metadata.iter() {
        let field = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        if let Some((name, value)) = field.filter(|(name, _)| !OURS.contains(&name.as_str())) {
            headers.append(name, value);
        }
    }
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    headers.insert("grpc-timeout", HeaderValue::from_str(&timeout(call.timeout)).ok()?);
    if call.gzip {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    Some(request)
}

/// A timeout in the format of gRPC: at most eight digits and a unit.
fn timeout(limit: Duration) -> String {
    match limit.as_millis() {
        millis @ ..=99_999_999 => format!("{millis}m"),
        _ => format!("{}S", limit.as_secs().min(99_999_999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn answers_are_read() {
        let ok = fields(&[("grpc-status", "0")]);
        assert_eq!(reply(200, &ok, &[0, 0, 0, 0, 1, 7]).message, [7].as_slice());
        assert_eq!(reply(200, &ok, &[]), GrpcReply::default());
        for bad in [&[0, 0, 0, 0, 2, 7][..], &[1, 0, 0, 0, 1, 7], &[0], &[0, 0, 0, 0, 0, 0]] {
            assert_eq!(reply(200, &ok, bad).status, INTERNAL, "{bad:?}");
        }
        let failed = fields(&[
            ("grpc-status", "8"),
            ("grpc-message", "slow%20down %C3%A9"),
            ("grpc-status-details-bin", "CAgSAXg"),
        ]);
        let failed = reply(200, &failed, &[]);
        assert_eq!((failed.status, &*failed.reason), (8, "slow down é"));
        assert_eq!(failed.details, [8, 8, 18, 1, b'x'].as_slice());
        for (status, code) in [(401, 16), (403, 7), (404, 12), (400, 13), (429, 14), (503, 14), (200, 2), (500, 2)] {
            assert_eq!(reply(status, &fields(&[("grpc-status", "x")]), &[]).status, code, "{status}");
        }
    }

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        assert_eq!(timeout(Duration::from_millis(1_500)), "1500m");
        assert_eq!(timeout(Duration::from_secs(100_000)), "100000S");
        assert_eq!(timeout(Duration::MAX), "99999999S");
    }

    #[test]
    fn metadata_does_not_replace_fields_of_the_protocol() {
        let mut metadata = cardinal_http::HeaderList::new();
        metadata.append(b"TE", b"gzip");
        metadata.append(b"X-Key", b"k");
        let call = GrpcCall { url: "http://h:1/a.B/C".to_owned(), metadata, ..GrpcCall::default() };
        let request = request(&call).unwrap();
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["x-key"], "k");
        assert_eq!(request.uri().path(), "/a.B/C");
    }
}
