//! HTTP/1.1 and HTTP/2, by hyper, and gRPC over HTTP/2.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use cardinal_base::task;
use cardinal_http::is_authority;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{BODY_MAX, Directions, IDLE, Seen, joined, websocket};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Limits on a request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADER_COUNT_MAX: usize = 200;

/// Serves a connection to its end.
pub(super) async fn serve(tcp: TcpStream, is_h2: bool) -> Result<()> {
    let (io, service) = (TokioIo::new(tcp), service_fn(answer));
    if is_h2 {
        let mut builder = http2::Builder::new(Spawn);
        return Ok(builder.max_concurrent_streams(256).serve_connection(io, service).await?);
    }
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADER_COUNT_MAX).half_close(true).title_case_headers(true);
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    Ok(builder.serve_connection(io, service).with_upgrades().await?)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    if version == Version::HTTP_2 {
        let kind = request.headers().get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return Ok(grpc(request));
        }
    } else if !has_host(&request) {
        return Ok(refusal(StatusCode::BAD_REQUEST, "no valid Host\n", version));
    } else if request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Ok(websocket::upgrade(request)
            .unwrap_or_else(|reason| refusal(StatusCode::BAD_REQUEST, &format!("{reason:#}\n"), version)));
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the echo backend takes 1 MiB\n", version));
        }
        Err(error) => return Ok(refusal(StatusCode::BAD_REQUEST, &format!("{error}\n"), version)),
    };
    let directions = Directions::of(head.uri.path());
    let host = head.headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let seen = Seen {
        version: &if version == Version::HTTP_2 { "HTTP/2".to_owned() } else { format!("{version:?}") },
        method: head.method.as_str(),
        host: head.uri.authority().map(http::uri::Authority::as_str).or(host.as_deref()).unwrap_or_default(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: joined(head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))),
        body: &body,
    };
    directions.wait().await;
    let status = directions.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
    let text = if matches!(status.as_u16(), 204 | 304) { String::new() } else { seen.to_json() };
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Sends the messages back as they come, whatever kind of streaming it is.
fn grpc(request: Request<Incoming>) -> Response<Body> {
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    // Passing the frames on hides how long the request is: a response with that length would end before its trailers for
    // clients that count.
    let messages = request.into_body().map_frame(|frame| frame);
    let mut response = Response::new(messages.with_trailers(trailers).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Whether there is one `Host` that is valid. HTTP/1.0 needs none.
fn has_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => is_authority(host.as_bytes()),
        _ => false,
    }
}

/// A response after which an HTTP/1.1 connection ends.
fn refusal(status: StatusCode, text: &str, version: Version) -> Response<Body> {
    let mut response = Response::new(whole(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that is there as a whole.
pub(super) fn whole(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// Runs the streams of HTTP/2.
#[derive(Clone, Copy, Debug)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        drop(task::spawn("echo stream", stream));
    }
}
