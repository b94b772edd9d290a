//! HTTP/1.1 with raw bytes on one side and strict parsing on the other.

mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cardinal_http::h1::response_framing;
use cardinal_http::{HeaderList, Method};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt as _;

pub(crate) use wire::Wire;

use crate::message::{Fields, Response};
use crate::socket::Socket;
use crate::within;

/// Sends any bytes at all, and reads responses strictly: one that is not well-formed is an error.
#[derive(Debug)]
pub struct H1Client {
    wire: Wire,
}

impl H1Client {
    /// Connects over plain TCP.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self::over(Socket::connect(address).await.with_context(|| format!("cannot connect to {address}"))?))
    }

    /// Connects over TLS with this server name.
    ///
    /// # Errors
    /// When nobody listens there, or the handshake fails.
    pub async fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Self> {
        Ok(Self::over(Socket::connect(address).await?.start_tls(name, config).await?))
    }

    /// A client on a connection that is there.
    pub fn over(socket: Socket) -> Self {
        Self { wire: Wire::new(socket) }
    }

    /// Bytes of TCP that have arrived and were not read.
    pub fn arrived(&self) -> u64 {
        rustix::io::ioctl_fionread(self.wire.socket.tcp()).unwrap_or(0)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        within("the peer to take bytes", self.wire.write(bytes.as_ref())).await??;
        Ok(())
    }

    /// Sends a `GET` for `host` with these further fields, and reads the response.
    ///
    /// # Errors
    /// As [`H1Client::send`] and [`H1Client::response`].
    pub async fn get(&mut self, target: &str, host: &str, fields: &[(&str, &str)]) -> Result<Response> {
        self.request("GET", target, host, fields, b"").await
    }

    /// Sends a request, with `Content-Length` where there is a body, and reads the response.
    ///
    /// # Errors
    /// As [`H1Client::send`] and [`H1Client::response`].
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        host: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes).await?;
        self.response_to(method).await
    }

    /// Reads a response to a `GET`.
    ///
    /// # Errors
    /// When what comes is no response, or is cut off.
    pub async fn response(&mut self) -> Result<Response> {
        self.response_to("GET").await
    }

    /// Reads a response to a request of this method; informational ones before it are collected. A `101` ends the
    /// reading: use [`H1Client::into_socket`] then.
    ///
    /// # Errors
    /// When what comes is no response, or is cut off.
    pub async fn response_to(&mut self, method: &str) -> Result<Response> {
        within("a response", self.read_response(method)).await?
    }

    async fn read_response(&mut self, method: &str) -> Result<Response> {
        let method = Method::parse(method.as_bytes()).context("not a method")?;
        let mut response = Response::default();
        let head = loop {
            let head = self.wire.response_head().await?.context("the connection ended before a response")?;
            if head.status == 101 || head.status >= 200 {
                break head;
            }
            response.interim.push((head.status, Fields::from(&head.headers)));
        };
        response.status = head.status;
        response.reason = String::from_utf8_lossy(head.reason()).into_owned();
        response.headers = Fields::from(&head.headers);
        let mut body = self.wire.body(response_framing(&method, &head)?);
        let mut trailers = HeaderList::new();
        while let Some(part) = self.wire.part(&mut body, &mut trailers).await? {
            response.body.extend_from_slice(&part);
        }
        response.trailers = Fields::from(&trailers);
        Ok(response)
    }

    /// Reads a response to a `GET` whose body may be huge: its status, and how many bytes the body had.
    ///
    /// # Errors
    /// When what comes is no response, or is cut off.
    pub async fn response_counted(&mut self) -> Result<(u16, u64)> {
        let head = within("a response head", self.wire.response_head()).await??;
        let head = head.context("the connection ended before a response")?;
        let mut body = self.wire.body(response_framing(&Method::Get, &head)?);
        let (mut count, mut trailers) = (0, HeaderList::new());
        while let Some(part) = within("a part of the body", self.wire.part(&mut body, &mut trailers)).await?? {
            count += part.len() as u64;
        }
        Ok((head.status, count))
    }

    /// Reads only the head of a response: status and fields. The body is read with [`H1Client::read_some`].
    ///
    /// # Errors
    /// When what comes is no response.
    pub async fn head(&mut self) -> Result<(u16, Fields)> {
        let head = within("a response head", self.wire.response_head()).await??;
        let head = head.context("the connection ended before a response")?;
        Ok((head.status, Fields::from(&head.headers)))
    }

    /// Bytes as they come, framing and all; empty at the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn read_some(&mut self) -> Result<Vec<u8>> {
        Ok(within("bytes", self.wire.some()).await??)
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let some = self.read_some().await?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&some);
        }
    }

    /// Says that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// When the peer has gone.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.wire.socket.shutdown().await?)
    }

    /// Ends the connection with a TCP reset.
    ///
    /// # Errors
    /// When the system refuses the socket option.
    pub fn reset(self) -> Result<()> {
        Ok(self.wire.socket.reset()?)
    }

    /// The connection, and bytes that were read from it and not used.
    pub fn into_socket(self) -> (Socket, Vec<u8>) {
        (self.wire.socket, self.wire.buf)
    }
}
