//! [`Connection`]: a connection for HTTP requests of the node itself: calls of plugins and health probes. The protocol
//! implementation is hyper; this module adds the node's byte streams, limits on responses, and errors that distinguish
//! failures of the node from failures of the server.
//!
//! The caller connects and enforces the timeout. Dropping a request closes its connection.

mod failure;
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use cardinal_base::task;
use cardinal_net::Io;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::task::JoinHandle;

pub(crate) use failure::{Cause, Failed};
use stream::{Counted, Traffic};

/// Limit on a response head, and the size of a buffer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADER_COUNT_MAX: usize = 1_000;
/// Flow control window of HTTP/2: responses are small.
const WINDOW_BYTES: u32 = 64 * 1024;
/// How many times to yield to the task that drives a connection until the connection is ready for another request.
const YIELDS_MAX: usize = 4;

/// A connection to a server. Dropping it closes it.
pub(crate) struct Connection {
    sender: Sender,
    traffic: Arc<Traffic>,
    _driver: AbortOnDrop,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Connection {
    /// Starts HTTP/1.1 on a byte stream.
    pub(crate) async fn http1(io: Io) -> Result<Self, Failed> {
        let (io, traffic) = Counted::new(io);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADER_COUNT_MAX)
            // Some servers only accept the usual capitalization.
            .title_case_headers(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failed::before(&error))?;
        // A connection error is reported to the request.
        let driver = task::spawn("HTTP/1.1 connection", async { drop(connection.await) });
        Ok(Self { sender: Sender::H1(sender), traffic, _driver: AbortOnDrop(driver) })
    }

    /// Starts HTTP/2 on a byte stream, by prior knowledge or after ALPN.
    pub(crate) async fn http2(io: Io) -> Result<Self, Failed> {
        let (io, traffic) = Counted::new(io);
        let (sender, connection) = http2::Builder::new(Spawn)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failed::before(&error))?;
        let driver = task::spawn("HTTP/2 connection", async { drop(connection.await) });
        Ok(Self { sender: Sender::H2(sender), traffic, _driver: AbortOnDrop(driver) })
    }

    /// Sends a request and reads the head of the response; informational responses are skipped. A server may respond
    /// before it has read the whole request.
    pub(crate) async fn request(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        self.traffic.start();
        let response = match &mut self.sender {
            Sender::H1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::H2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        let response = response.map_err(|error| self.failed(Cause::of(&error)))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failed(Cause::Answer("an unexpected informational response".to_owned())));
        }
        Ok(response)
    }

    /// Reads a response to its end, unless its body is larger than `body_max`.
    pub(crate) async fn read(&self, response: Response<Incoming>, body_max: u64) -> Result<Reply, Failed> {
        let (head, mut incoming) = response.into_parts();
        if incoming.size_hint().lower() > body_max {
            return Err(self.failed(Cause::TooLarge));
        }
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| self.failed(Cause::of(&error)))?;
            match frame.into_data() {
                Ok(data) if (body.len() + data.len()) as u64 > body_max => return Err(self.failed(Cause::TooLarge)),
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(Reply { status: head.status, headers: head.headers, body: body.into(), trailers })
    }

    /// Whether another request can be sent, after a response was read completely.
    pub(crate) async fn is_reusable(&self) -> bool {
        for _ in 0..YIELDS_MAX {
            if self.is_ready() || self.is_closed() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.is_ready()
    }

    /// Whether the connection is idle and the server has not closed it.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_ready(),
            Sender::H2(sender) => sender.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    fn failed(&self, cause: Cause) -> Failed {
        Failed { cause, sent: self.traffic.has_sent(), answered: self.traffic.has_received() }
    }
}

/// The request target for a path with an optional query. Bytes that are not allowed in a target are percent-encoded;
/// existing escapes stay.
pub(crate) fn target(path: &str) -> Result<PathAndQuery, &'static str> {
    const NOT_IN_TARGET: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'<').add(b'>').add(b'"').add(b'`');
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = format!("{slash}{}", utf8_percent_encode(path, NOT_IN_TARGET));
    PathAndQuery::try_from(text).map_err(|_| "its path cannot be sent")
}

/// Aborts a task when dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Spawns the background tasks of hyper.
#[derive(Clone, Copy, Debug)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(task::spawn("HTTP/2 stream", async { drop(future.await) }));
    }
}

#[cfg(test)]
mod tests;
