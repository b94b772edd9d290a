//! Serves the API on sockets, over HTTP/1.1 and TLS, with limits on connections, heads, bodies and slow clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, DATE, HOST, HeaderName, HeaderValue, ORIGIN, SERVER};
use axum::http::{self, HeaderMap};
use bytes::Bytes;
use cardinal_base::{Clock, task, timeout};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::admin::Admin;
use super::message::{Request, Response};
use crate::trace::Trace;

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 1_024;
/// Bytes and fields of a request head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADER_COUNT_MAX: usize = 100;
/// For a TLS handshake, and for a request head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tls = listener.tls.map(TlsAcceptor::from);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
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
    match tls {
        None => serve_http(admin, tcp, from, clock).await,
        Some(tls) => {
            let stream = timeout(&*clock, HEAD_TIMEOUT, tls.accept(tcp)).await?.map_err(ConnectionError::Tls)?;
            serve_http(admin, stream, from, clock).await
        }
    }
}

async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    admin: Admin,
    stream: S,
    from: SocketAddr,
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
    from: SocketAddr,
    clock: &dyn Clock,
) -> http::Response<Body> {
    let start = clock.tick();
    let (method, is_head) = (request.method().clone(), request.method() == http::Method::HEAD);
    let route = admin.metrics().route(request.uri().path());
    let trace = text(request.headers(), &TRACEPARENT).and_then(|value| Trace::parse(&value));
    let response = match read(admin, request, from, clock).await {
        Ok(request) => Trace::cover(trace, admin.answer(&request)).await,
        Err(response) => response,
    };
    let elapsed = clock.tick().0.saturating_sub(start.0);
    let (method, status, elapsed_ms) = (method.as_str(), response.status, elapsed / 1_000);
    admin.metrics().answered(method, route, status, elapsed);
    // Not the path: it may have a credential.
    let (route, trace) = (admin.metrics().pattern(route), trace.map(tracing::field::display));
    if matches!(method, "GET" | "HEAD" | "OPTIONS") {
        tracing::debug!(method, route, status, elapsed_ms, client = %from.ip(), trace_id = trace, "Admin API request");
    } else {
        tracing::info!(method, route, status, elapsed_ms, client = %from.ip(), trace_id = trace, "Admin API request");
    }
    let mut out = written(response, is_head);
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
    from: SocketAddr,
    clock: &dyn Clock,
) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    let text = |name: HeaderName| text(&head.headers, &name);
    if head.headers.get_all(HOST).iter().count() > 1 {
        return Err(Response::message(400, "Bad request"));
    }
    if head.headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return Err(Response::message(400, "Multiple Content-Type headers not allowed"));
    }
    let body = read_body(body, admin.body_bytes_max(), clock).await?;
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: text(CONTENT_TYPE),
        origin: text(ORIGIN),
        host: text(HOST),
        is_local: from.ip().is_loopback(),
        preflight_headers: text(HeaderName::from_static("access-control-request-headers")),
        from: from.ip().to_string(),
        body,
    })
}

async fn read_body(body: Incoming, bytes_max: usize, clock: &dyn Clock) -> Result<Bytes, Response> {
    let collected = timeout(clock, BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Err(_elapsed) => Err(Response::message(408, "the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Response::message(413, &format!("the body has more than {bytes_max} bytes")))
        }
        Ok(Err(_broken)) => Err(Response::message(400, "the body cannot be read")),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn written(response: Response, is_head: bool) -> http::Response<Body> {
    let length = response.body_text();
    let Response { status, headers, .. } = response;
    let mut out = http::Response::new(match &length {
        Some(text) if !is_head => Body::from(text.clone()),
        _ => Body::empty(),
    });
    *out.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let fields = out.headers_mut();
    if let Some(text) = &length {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    }
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.insert(name, value);
        }
    }
    out
}
