//! A blocking HTTP/1.1 client with one kept-alive connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Time limit for a single response: a batch of 1,000 writes is one.
const RESPONSE_MAX: Duration = Duration::from_secs(120);

pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Client {
    pub(super) fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_MAX))?;
        Ok(Self { stream, received: Vec::new() })
    }

    pub(super) fn get(&mut self, host: &str, path: &str) -> Result<Response> {
        self.send("GET", host, path, "")
    }

    /// Sends JSON. A status other than 2xx is an error.
    pub(super) fn write(&mut self, method: &str, path: &str, body: &str) -> Result<Response> {
        let response = self.send(method, "localhost", path, body)?;
        ensure!(response.status / 100 == 2, "{method} {path}: {} {}", response.status, response.body);
        Ok(response)
    }

    fn send(&mut self, method: &str, host: &str, path: &str, body: &str) -> Result<Response> {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        self.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        self.receive().with_context(|| format!("{method} {path}"))
    }

    fn receive(&mut self) -> Result<Response> {
        let head_end = loop {
            match memchr::memmem::find(&self.received, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map(str::trim);
        let length: usize = match (length, status) {
            (Some(length), _) => length.parse()?,
            (None, 204) => 0,
            (None, _) => bail!("a response without a length: {head}"),
        };
        while self.received.len() < head_end + length {
            self.more()?;
        }
        let body = String::from_utf8_lossy(&self.received[head_end..head_end + length]).into_owned();
        self.received.drain(..head_end + length);
        Ok(Response { status, body })
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer)?;
        ensure!(count > 0, "the connection was closed");
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}
