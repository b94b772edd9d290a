//! Serves the API on sockets, over HTTP/1.1 and TLS, with limits on connections, heads, bodies and clients that send or read
//! slowly.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, DATE, HOST, HeaderName, HeaderValue, ORIGIN, SERVER};
use axum::http::{self, HeaderMap};
use bytes::{Bytes, BytesMut};
use cardinal_base::{Clock, task, timeout};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::admin::Admin;
use super::budget::{Budget, Held};
use super::message::{Credentials, Request, Response};
use super::write_limit::WriteLimit;
use crate::trace::Trace;

/// Bytes and fields of a request head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADER_COUNT_MAX: usize = 100;
/// For a TLS handshake, and for a request head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The type of all bodies.
const JSON: &str = "application/json; charset=utf-8";
/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// After accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket of the API.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// With TLS, by this configuration.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves the API for as long as the future is polled; connections end with their clients.
pub async fn serve(admin: Admin, listener: Listener, clock: Arc<dyn Clock>) {
    let tls = listener.tls.map(TlsAcceptor::from);
    loop {
        let Some(place) = admin.budget().connection().await else { return };
        let (tcp, from) = match listener.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the Admin API cannot accept a connection");
                clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (admin, tls, clock) = (admin.clone(), tls.clone(), Arc::clone(&clock));
        drop(task::spawn("Admin API connection", async move {
            let _place = place;
            let counted = admin.clone();
            let _open = counted.metrics().connected();
            if let Err(error) = connection(admin, tls, (tcp, from), clock).await {
                tracing::debug!(%error, "a connection of the Admin API failed");
            }
        }));
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("TLS handshake: timeout")]
    Timeout(#[from] cardinal_base::Elapsed),
    #[error("TLS handshake: {0}")]
    Tls(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

async fn connection(
    admin: Admin,
    tls: Option<TlsAcceptor>,
    (tcp, from): (TcpStream, SocketAddr),
    clock: Arc<dyn Clock>,
) -> Result<(), ConnectionError> {
    // Without it small responses may wait for an acknowledgement; a failure costs only speed.
    tcp.set_nodelay(true).ok();
    let tcp = WriteLimit::new(tcp, Arc::clone(&clock));
    match tls {
        None => serve_http(admin, tcp, (from, false), clock).await,
        Some(tls) => {
            let stream = timeout(&*clock, HEAD_TIMEOUT, tls.accept(tcp)).await?.map_err(ConnectionError::Tls)?;
            serve_http(admin, stream, (from, true), clock).await
        }
    }
}

/// The address of a client, and whether the connection has TLS.
type Client = (SocketAddr, bool);

async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    admin: Admin,
    stream: S,
    from: Client,
    clock: Arc<dyn Clock>,
) -> Result<(), ConnectionError> {
    let service = service_fn(move |request| {
        let (admin, clock) = (admin.clone(), Arc::clone(&clock));
        // The future of a request is large.
        Box::pin(async move { Ok::<_, Infallible>(answer(&admin, request, from, &*clock).await) })
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_COUNT_MAX)
        .half_close(true)
        .auto_date_header(false)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn answer(
    admin: &Admin,
    request: http::Request<Incoming>,
    from: Client,
    clock: &dyn Clock,
) -> http::Response<Body> {
    let start = clock.tick();
    let (method, is_head) = (request.method().clone(), request.method() == http::Method::HEAD);
    let route = admin.metrics().route(request.uri().path());
    let trace = text(request.headers(), &TRACEPARENT).and_then(|value| Trace::parse(&value));
    let mut held = Held::default();
    let response = match read(admin, request, (from, &mut held), clock).await {
        Ok(request) => Trace::cover(trace, admin.answer(&request)).await,
        Err(response) => response,
    };
    drop(held);
    let elapsed = clock.tick().0.saturating_sub(start.0);
    let (method, status, elapsed_ms) = (method.as_str(), response.status, elapsed / 1_000);
    admin.metrics().answered(method, route, status, elapsed);
    // Not the path: it may have a credential.
    let (route, trace) = (admin.metrics().pattern(route), trace.map(tracing::field::display));
    if matches!(method, "GET" | "HEAD" | "OPTIONS") {
        tracing::debug!(method, route, status, elapsed_ms, client = %from.0.ip(), trace_id = trace, "Admin API request");
    } else {
        tracing::info!(method, route, status, elapsed_ms, client = %from.0.ip(), trace_id = trace, "Admin API request");
    }
    let mut out = written(admin.budget(), response, is_head);
    let headers = out.headers_mut();
    headers.insert(HeaderName::from_static("x-kong-admin-latency"), HeaderValue::from(elapsed_ms));
    let server = format!("kong/{}", admin.version());
    headers.extend(HeaderValue::try_from(server).ok().map(|server| (SERVER, server)));
    let date = httpdate::fmt_http_date(clock.unix().system_time());
    headers.extend(HeaderValue::try_from(date).ok().map(|date| (DATE, date)));
    out
}

/// The request with its body.
async fn read(
    admin: &Admin,
    request: http::Request<Incoming>,
    ((from, is_tls), held): (Client, &mut Held),
    clock: &dyn Clock,
) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    let text = |name: HeaderName| text(&head.headers, &name);
    if !is_plain(&head.headers, &HOST) || !is_plain(&head.headers, &ORIGIN) {
        return Err(Response::message(400, "Bad request"));
    }
    if head.headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return Err(Response::message(400, "Multiple Content-Type headers not allowed"));
    }
    let request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: text(CONTENT_TYPE),
        origin: text(ORIGIN),
        host: text(HOST),
        is_local: from.ip().is_loopback(),
        preflight_headers: text(HeaderName::from_static("access-control-request-headers")),
        from: from.ip().to_string(),
        credentials: Credentials {
            token: text(HeaderName::from_static("kong-admin-token")),
            authorization: text(AUTHORIZATION),
            cookie: text(COOKIE),
            csrf: text(HeaderName::from_static("x-csrf-token")),
            is_tls,
        },
        body: Bytes::new(),
    };
    if body.is_end_stream() {
        return Ok(request);
    }
    if let Some(refusal) = admin.refusal(&request).await {
        return Err(refusal);
    }
    let reading = read_body(body, admin.body_bytes_max(), (admin.budget(), held));
    let arrived = timeout(clock, BODY_TIMEOUT, reading).await;
    let body = arrived.unwrap_or_else(|_elapsed| Err(Response::message(408, "the body did not arrive in time")))?;
    Ok(Request { body, ..request })
}

/// Reads a body, as long as there is room for it among those of all requests.
async fn read_body(body: Incoming, bytes_max: usize, (budget, held): (&Budget, &mut Held)) -> Result<Bytes, Response> {
    let too_large = || Response::message(413, &format!("the body has more than {bytes_max} bytes"));
    let broken = |_: hyper::Error| Response::message(400, "the body cannot be read");
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose().map_err(broken)? {
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        // A buffer that grows has up to twice the bytes in it.
        if !budget.hold(2 * data.len(), held) {
            return Err(busy("the Admin API is reading too many large requests: try again"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// What is busy now is free again soon.
fn busy(message: &str) -> Response {
    let headers = vec![("retry-after", "1".to_owned())];
    Response { headers, ..Response::message(503, message) }
}

/// There is no room for a response.
fn refused() -> http::Response<Body> {
    let text = json!({ "message": "the Admin API is sending too many large responses: try again" }).to_string();
    let mut out = http::Response::new(Body::from(text));
    *out.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    out.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(1));
    out.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    out
}

/// Whether a field that says where a request comes from is there once at most, and readable.
fn is_plain(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_none_or(|value| value.to_str().is_ok()) && values.next().is_none()
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn written(budget: &Budget, response: Response, is_head: bool) -> http::Response<Body> {
    let text = response.body_text();
    let Response { status, headers, body } = response;
    drop(body);
    let length = text.as_ref().map(String::len);
    let mut out = http::Response::new(match text {
        Some(text) if !is_head => match budget.response(text) {
            Some(bytes) => Body::from(bytes),
            None => return refused(),
        },
        _ => Body::empty(),
    });
    *out.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let fields = out.headers_mut();
    if let Some(length) = length {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.insert(name, value);
        }
    }
    out
}
