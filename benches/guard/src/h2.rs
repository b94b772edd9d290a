//! A minimal HTTP/2 client and upstream (RFC 9113, RFC 7541): heads are encoded once, windows are opened wide at the
//! start and refilled from time to time.

use anyhow::{Result, bail, ensure};
use cardinal_base::task;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::config::target;

const PIPE_BYTES: usize = 256 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// Number of data bytes after which the windows are refilled.
const TOP_UP: u32 = 1 << 20;
/// The largest window.
const WINDOW: u32 = (1 << 31) - 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface of both sides: no dynamic table, large windows for streams and the connection.
fn greeting() -> Vec<u8> {
    let mut settings = vec![0, 1, 0, 0, 0, 0];
    settings.extend_from_slice(&[0, 4]);
    settings.extend_from_slice(&WINDOW.to_be_bytes());
    let mut bytes = frame(SETTINGS, 0, 0, &settings);
    bytes.extend(frame(8, 0, 0, &(WINDOW - 65_535).to_be_bytes()));
    bytes
}

/// A literal field without indexing and without Huffman coding.
fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // All texts are shorter than 127 bytes.
        block.push(u8::try_from(text.len()).unwrap_or_default());
        block.extend_from_slice(text.as_bytes());
    }
}

/// Splits received bytes into frames.
struct Frames {
    stream: DuplexStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    len: u32,
}

impl Frames {
    fn new(stream: DuplexStream) -> Self {
        Self { stream, buffer: vec![0; 128 * 1024], start: 0, end: 0 }
    }

    async fn more(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = self.stream.read(self.buffer.get_mut(self.end..).unwrap_or_default()).await?;
        ensure!(count > 0, "the connection ended");
        self.end += count;
        Ok(())
    }

    async fn skip(&mut self, count: usize) -> Result<()> {
        while self.end - self.start < count {
            self.more().await?;
        }
        self.start += count;
        Ok(())
    }

    /// The next frame, complete; settings and pings are acknowledged.
    async fn next(&mut self) -> Result<Frame> {
        loop {
            while self.end - self.start < 9 {
                self.more().await?;
            }
            let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = self.buffer.get(self.start..self.start + 9) else {
                bail!("no frame");
            };
            let frame = Frame {
                kind,
                flags,
                stream: u32::from_be_bytes([s0, s1, s2, s3]),
                len: u32::from_be_bytes([0, a, b, c]),
            };
            self.start += 9;
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    self.skip(frame.len as usize).await?;
                    self.stream.write_all(&self::frame(SETTINGS, ACK, 0, &[])).await?;
                }
                PING if flags & ACK == 0 => {
                    while self.end - self.start < 8 {
                        self.more().await?;
                    }
                    let echo =
                        self::frame(PING, ACK, 0, self.buffer.get(self.start..self.start + 8).unwrap_or_default());
                    self.start += 8;
                    self.stream.write_all(&echo).await?;
                }
                GOAWAY | RST_STREAM => bail!("frame {kind} of stream {}", frame.stream),
                _ => {
                    self.skip(frame.len as usize).await?;
                    return Ok(frame);
                }
            }
        }
    }
}

/// A client with one connection.
pub(crate) struct Client {
    frames: Frames,
    stream: u32,
    /// Head, and body if any, with the positions of the stream id.
    request: Vec<u8>,
    numbers: Vec<usize>,
    received: u32,
    greeting: Option<Vec<u8>>,
}

impl Client {
    pub(crate) fn new(stream: DuplexStream, at: usize, grpc: bool) -> Self {
        let (host, path) = target(at);
        let mut block = Vec::new();
        field(&mut block, ":method", if grpc { "POST" } else { "GET" });
        field(&mut block, ":scheme", "http");
        field(&mut block, ":authority", &host);
        field(&mut block, ":path", &path);
        field(&mut block, "user-agent", "cardinal-bench/1.0");
        if grpc {
            field(&mut block, "content-type", "application/grpc");
            field(&mut block, "te", "trailers");
            field(&mut block, "grpc-timeout", "5S");
        } else {
            field(&mut block, "accept", "application/json, text/plain;q=0.9, */*;q=0.8");
            field(&mut block, "accept-language", "en-GB,en;q=0.7");
            field(&mut block, "cookie", "session=0123456789abcdef");
        }
        let end = if grpc { END_HEADERS } else { END_HEADERS | END_STREAM };
        let mut request = frame(HEADERS, end, 0, &block);
        let mut numbers = vec![5];
        if grpc {
            numbers.push(request.len() + 5);
            request.extend(frame(
                DATA,
                END_STREAM,
                0,
                &[0, 0, 0, 0, 100].into_iter().chain([b'q'; 100]).collect::<Vec<u8>>(),
            ));
        }
        let greeting = [PREFACE, &greeting()].concat();
        Self { frames: Frames::new(stream), stream: 1, request, numbers, received: 0, greeting: Some(greeting) }
    }

    /// Sends a request and reads the response.
    pub(crate) async fn exchange(&mut self) -> Result<()> {
        if let Some(greeting) = self.greeting.take() {
            self.frames.stream.write_all(&greeting).await?;
        }
        let number = self.stream.to_be_bytes();
        for at in &self.numbers {
            if let Some(place) = self.request.get_mut(*at..at + 4) {
                place.copy_from_slice(&number);
            }
        }
        self.frames.stream.write_all(&self.request).await?;
        let mut bytes = 0;
        loop {
            let frame = self.frames.next().await?;
            if frame.stream != self.stream {
                continue;
            }
            if frame.kind == DATA {
                bytes += frame.len;
            }
            if frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS) {
                break;
            }
        }
        ensure!(bytes >= 100, "an answer of {bytes} bytes");
        self.stream += 2;
        self.received += bytes;
        if self.received >= TOP_UP {
            self.frames.stream.write_all(&frame(8, 0, 0, &self.received.to_be_bytes())).await?;
            self.received = 0;
        }
        Ok(())
    }
}

/// Starts an upstream that responds to each request like a unary gRPC method.
pub(crate) fn upstream() -> DuplexStream {
    let (near, far) = duplex(PIPE_BYTES);
    drop(task::spawn_local("upstream", async move {
        // This fails when the proxy has closed the connection.
        serve(far).await.ok();
    }));
    near
}

async fn serve(stream: DuplexStream) -> Result<()> {
    let mut head = vec![0x88];
    field(&mut head, "content-type", "application/grpc");
    let mut trailers = Vec::new();
    field(&mut trailers, "grpc-status", "0");
    let mut response = frame(HEADERS, END_HEADERS, 0, &head);
    let mut numbers = vec![5, response.len() + 5];
    response.extend(frame(DATA, 0, 0, &[0, 0, 0, 0, 100].into_iter().chain([b'r'; 100]).collect::<Vec<u8>>()));
    numbers.push(response.len() + 5);
    response.extend(frame(HEADERS, END_HEADERS | END_STREAM, 0, &trailers));
    let mut frames = Frames::new(stream);
    frames.skip(PREFACE.len()).await?;
    frames.stream.write_all(&greeting()).await?;
    let mut received = 0;
    loop {
        let came = frames.next().await?;
        if came.kind == DATA {
            received += came.len;
        }
        if came.flags & END_STREAM == 0 || !matches!(came.kind, DATA | HEADERS) {
            continue;
        }
        for at in &numbers {
            if let Some(place) = response.get_mut(*at..at + 4) {
                place.copy_from_slice(&came.stream.to_be_bytes());
            }
        }
        frames.stream.write_all(&response).await?;
        if received >= TOP_UP {
            frames.stream.write_all(&frame(8, 0, 0, &received.to_be_bytes())).await?;
            received = 0;
        }
    }
}
