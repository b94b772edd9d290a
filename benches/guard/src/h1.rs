//! A minimal HTTP/1.1 client and upstream.

use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result, ensure};
use cardinal_base::task;
use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Capacity of a connection in each direction, bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// Finds the end of a head.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\r\n\r\n"));

/// Finds the length of a body.
static LENGTH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("Content-Length: "));

/// A response with six fields and a body of this size.
pub(crate) fn response(body: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {body}\r\nCache-Control: no-cache\r\nETag: \"0123456789\"\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + body, b'y');
    bytes
}

/// Starts an upstream that sends this response to each request.
pub(crate) fn upstream(response: Arc<[u8]>) -> DuplexStream {
    let (near, mut far) = duplex(PIPE_BYTES);
    drop(task::spawn_local("upstream", async move {
        let mut buffer = vec![0; 128 * 1024];
        // Reading or writing fails when the proxy has closed the connection.
        while read_message(&mut far, &mut buffer).await.is_ok() && far.write_all(&response).await.is_ok() {}
    }));
    near
}

/// Reads a message; returns the length of its head.
async fn read_message(stream: &mut DuplexStream, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    let mut whole = None;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let count = stream.read(room).await?;
        ensure!(count > 0, "the connection ended after {filled} bytes");
        filled += count;
        let seen = buffer.get(..filled).unwrap_or_default();
        if whole.is_none() {
            whole = END.find(seen).map(|at| at + 4).map(|head| (head, head + content_length(seen)));
        }
        if let Some((head, length)) = whole
            && filled >= length
        {
            ensure!(filled == length, "{} bytes after the message", filled - length);
            return Ok(head);
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let Some(at) = LENGTH.find(head) else { return 0 };
    let digits = head.get(at + LENGTH.needle().len()..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

/// A client with one connection.
pub(crate) struct Client {
    stream: DuplexStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: DuplexStream, request: &[u8]) -> Self {
        Self { stream, request: request.to_vec(), buffer: vec![0; 128 * 1024] }
    }

    /// Continues with another connection.
    pub(crate) fn replace(&mut self, stream: DuplexStream) {
        self.stream = stream;
    }

    /// Sends a request and reads the response.
    pub(crate) async fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await?;
        let head = read_message(&mut self.stream, &mut self.buffer).await?;
        let head = self.buffer.get(..head).context("no head")?;
        ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(head));
        Ok(())
    }
}
