//! HTTP/2 by prior knowledge or ALPN.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cardinal_base::task;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use crate::grpc::{GrpcReply, frame};
use crate::message::{Fields, Response};
use crate::socket::Socket;
use crate::within;

/// A connection.
#[derive(Debug)]
pub struct H2Client {
    send: SendRequest<Bytes>,
    scheme: &'static str,
    driver: JoinHandle<()>,
}

impl Drop for H2Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl H2Client {
    /// Connects in the clear, by prior knowledge.
    ///
    /// # Errors
    /// When nobody listens there, or it does not speak HTTP/2.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Self::over(Socket::connect(address).await?).await
    }

    /// Connects over TLS; `config` must offer `h2`.
    ///
    /// # Errors
    /// When nobody listens there, the handshake fails, or ALPN does not choose `h2`.
    pub async fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Self> {
        let socket = Socket::connect(address).await?.start_tls(name, config).await?;
        ensure!(socket.alpn() == Some(b"h2"), "ALPN chose {:?}", socket.alpn().map(String::from_utf8_lossy));
        Self::over(socket).await
    }

    /// A client on a connection that is there.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn over(socket: Socket) -> Result<Self> {
        let scheme = if matches!(socket, Socket::Tls(_)) { "https" } else { "http" };
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(socket)
            .await?;
        let driver = task::spawn("h2 client", async move {
            // Its end shows in the exchanges.
            let _ended = connection.await;
        });
        Ok(Self { send, scheme, driver })
    }

    /// Sends a request with its body and reads the response.
    ///
    /// # Errors
    /// When the stream or the connection fails.
    pub async fn request(
        &mut self,
        method: &str,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut exchange = self.open(method, authority, path, fields, body.is_empty()).await?;
        let sent = if body.is_empty() { Ok(()) } else { exchange.send(body, true).await };
        let response = exchange.response().await;
        // Who answers early need not take the rest of the body.
        if response.is_err() {
            sent?;
        }
        response
    }

    /// Opens a stream; with `end` the request has no body.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub async fn open(
        &mut self,
        method: &str,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
        end: bool,
    ) -> Result<H2Exchange> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}://{authority}{path}", self.scheme))
            .version(http::Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut ready = within("a free stream", self.send.clone().ready()).await??;
        let (response, send) = ready.send_request(request.body(())?, end)?;
        Ok(H2Exchange { response: Some(response), send, recv: None })
    }

    /// Calls a gRPC method with all messages at once. Good for all four kinds of streaming as long as the server does
    /// not wait for its answers to be read.
    ///
    /// # Errors
    /// When the stream fails or what comes is not gRPC.
    pub async fn grpc(
        &mut self,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
        messages: &[&[u8]],
    ) -> Result<GrpcReply> {
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.extend_from_slice(fields);
        let mut exchange = self.open("POST", authority, path, &all, messages.is_empty()).await?;
        for (at, message) in messages.iter().enumerate() {
            exchange.send(&frame(message), at + 1 == messages.len()).await?;
        }
        exchange.response().await?.try_into()
    }
}

/// One stream.
#[derive(Debug)]
pub struct H2Exchange {
    response: Option<h2::client::ResponseFuture>,
    send: SendStream<Bytes>,
    recv: Option<RecvStream>,
}

impl H2Exchange {
    /// Sends a part of the body as the peer makes room for it. A peer that has answered and wants to hear no more (a
    /// reset without error, RFC 9113 section 8.1) is spared the rest.
    ///
    /// # Errors
    /// When the stream was reset.
    pub async fn send(&mut self, data: &[u8], end: bool) -> Result<()> {
        let sent = within("room to send", send_all(&mut self.send, data, end)).await?;
        let unheard = std::future::poll_fn(|cx| Poll::Ready(self.send.poll_reset(cx))).await;
        match (sent, unheard) {
            (Err(_), Poll::Ready(Ok(Reason::NO_ERROR))) => Ok(()),
            (sent, _) => sent,
        }
    }

    /// Ends the body with trailers.
    ///
    /// # Errors
    /// When the stream was reset or a field is illegal.
    pub fn send_trailers(&mut self, fields: &[(&str, &str)]) -> Result<()> {
        Ok(self.send.send_trailers(header_map(fields)?)?)
    }

    /// Resets the stream.
    pub fn reset(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// The response head.
    ///
    /// # Errors
    /// When the stream was reset, or the head was read before.
    pub async fn head(&mut self) -> Result<(u16, Fields)> {
        let response = within("a response head", self.response.take().context("the head was read before")?).await??;
        let (parts, body) = response.into_parts();
        self.recv = Some(body);
        Ok((parts.status.as_u16(), Fields::from(&parts.headers)))
    }

    /// Whether the response ended with what was read so far: the head, when nothing else was.
    pub fn is_ended(&self) -> bool {
        self.recv.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    /// When the stream was reset, or the head was not read yet.
    pub async fn part(&mut self) -> Result<Option<Bytes>> {
        let recv = self.recv.as_mut().context("the head comes first")?;
        let part = match within("a part of the body", recv.data()).await? {
            Some(Err(error)) if is_early_end(&error) => None,
            part => part.transpose()?,
        };
        let Some(part) = part else { return Ok(None) };
        recv.flow_control().release_capacity(part.len())?;
        Ok(Some(part))
    }

    /// The trailers, once the body has ended; empty when there are none.
    ///
    /// # Errors
    /// When the stream was reset, or the head was not read yet.
    pub async fn trailers(&mut self) -> Result<Fields> {
        let recv = self.recv.as_mut().context("the head comes first")?;
        let trailers = match within("trailers", recv.trailers()).await? {
            Err(error) if is_early_end(&error) => None,
            trailers => trailers?,
        };
        Ok(trailers.as_ref().map(Fields::from).unwrap_or_default())
    }

    /// Head, body and trailers.
    ///
    /// # Errors
    /// When the stream was reset.
    pub async fn response(&mut self) -> Result<Response> {
        let (status, headers) = self.head().await?;
        let mut response = Response { status, headers, ..Response::default() };
        while let Some(part) = self.part().await? {
            response.body.extend_from_slice(&part);
        }
        response.trailers = self.trailers().await?;
        Ok(response)
    }
}

/// The server has answered completely and wants no more of the request (RFC 9113 section 8.1).
fn is_early_end(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// Sends `data` as the peer makes room for it.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, data: &[u8], end: bool) -> Result<()> {
    let mut data = Bytes::copy_from_slice(data);
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream was closed")??;
        if room > 0 {
            stream.send_data(data.split_to(room.min(data.len())), false)?;
        }
    }
    if end {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Fields as HTTP/2 sends them.
pub(crate) fn header_map(fields: &[(&str, &str)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(map)
}
