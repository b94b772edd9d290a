//! HTTP/2 requests that could be interpreted differently in HTTP/1.1, sent as raw frames.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::recorder::{Recorder, Seen};
use super::world;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection with access to single frames.
pub(crate) struct Frames {
    tcp: TcpStream,
}

/// The outcome of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// First byte of the header block: an indexed `:status`.
    status: Option<u8>,
    body: String,
    reset: bool,
}

impl Frames {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let mut frames = Self { tcp: TcpStream::connect(address).await? };
        frames.tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        frames.send(SETTINGS, 0, 0, b"").await?;
        Ok(frames)
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let mut frame = u32::try_from(payload.len())?.to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        Ok(self.tcp.write_all(&frame).await?)
    }

    /// A header block in one frame.
    pub(crate) async fn headers(&mut self, stream: u32, block: &[u8], end: bool) -> Result<()> {
        self.send(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, block).await
    }

    /// The first byte of the response's header block on the first stream; `None` if there is no response.
    pub(crate) async fn one(&mut self) -> Result<Option<u8>> {
        let [first, _] = self.outcomes_of([false, true]).await?;
        Ok(first.status.filter(|_| !first.reset))
    }

    /// A request: fields, a body unless it is `None`, optional trailers.
    async fn request(&mut self, stream: u32, case: &Case) -> Result<()> {
        let ends = if case.body.is_none() && case.trailers.is_empty() { END_STREAM } else { 0 };
        self.send(HEADERS, END_HEADERS | ends, stream, &block(&case.fields)).await?;
        if let Some(body) = case.body {
            let ends = if case.trailers.is_empty() { END_STREAM } else { 0 };
            self.send(DATA, ends, stream, body.as_bytes()).await?;
        }
        if !case.trailers.is_empty() {
            self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&case.trailers)).await?;
        }
        Ok(())
    }

    /// The outcomes of both streams, once both have ended or the connection has.
    async fn outcomes(&mut self) -> Result<[Outcome; 2]> {
        self.outcomes_of([false; 2]).await
    }

    /// The same for the streams that have not ended yet.
    async fn outcomes_of(&mut self, mut done: [bool; 2]) -> Result<[Outcome; 2]> {
        let mut outcomes = [Outcome::default(), Outcome::default()];
        while !(done[0] && done[1]) {
            let mut head = [0; 9];
            if self.tcp.read_exact(&mut head).await.is_err() {
                break;
            }
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if self.tcp.read_exact(&mut payload).await.is_err() {
                break;
            }
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let at = if stream == 3 { 1 } else { 0 };
            match (head[3], stream) {
                // The other side may have closed the connection already.
                (SETTINGS, _) if head[4] & 1 == 0 => drop(self.send(SETTINGS, 1, 0, b"").await),
                (PING, _) if head[4] & 1 == 0 => drop(self.send(PING, 1, 0, &payload).await),
                (GOAWAY, _) => break,
                (HEADERS, 1 | 3) => outcomes[at].status = outcomes[at].status.or(payload.first().copied()),
                (DATA, 1 | 3) => outcomes[at].body.push_str(&String::from_utf8_lossy(&payload)),
                (RST_STREAM, 1 | 3) => {
                    // NO_ERROR after a complete response means that the rest of the request is not needed.
                    outcomes[at].reset |= payload != [0; 4];
                    done[at] = true;
                }
                _ => {}
            }
            if matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0 && (stream == 1 || stream == 3) {
                done[at] = true;
            }
        }
        Ok(outcomes)
    }
}

/// Fields in HPACK, each as a literal without indexing and without Huffman coding.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a short text");
            out.push(u8::try_from(text.len()).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

struct Case {
    name: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: Option<&'static str>,
    trailers: Vec<(&'static str, &'static str)>,
    /// The line that the backend records; `None` if it must not receive a request.
    passes: Option<&'static str>,
}

const PSEUDO: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/case")];
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Well-formed except for these additional fields.
fn with(
    name: &'static str,
    more: &[(&'static str, &'static str)],
    body: Option<&'static str>,
    passes: Option<&'static str>,
) -> Case {
    Case { name, fields: [&PSEUDO, more].concat(), body, trailers: Vec::new(), passes }
}

/// With another value of a pseudo-header.
fn pseudo(name: &'static str, which: &'static str, value: &'static str, passes: Option<&'static str>) -> Case {
    let fields = PSEUDO.iter().map(|(n, v)| (*n, if *n == which { value } else { *v })).collect();
    Case { name, fields, body: None, trailers: Vec::new(), passes }
}

/// With these pseudo-headers and fields only.
fn only(name: &'static str, fields: &[(&'static str, &'static str)]) -> Case {
    Case { name, fields: fields.to_vec(), body: None, trailers: Vec::new(), passes: None }
}

fn trailed(name: &'static str, trailers: &[(&'static str, &'static str)], passes: Option<&'static str>) -> Case {
    Case { name, fields: PSEUDO.to_vec(), body: Some("hello"), trailers: trailers.to_vec(), passes }
}

fn fields() -> Vec<Case> {
    let refused = |name, more: &[(&'static str, &'static str)]| with(name, more, None, None);
    vec![
        refused("CRLF in a value", &[("x", "y\r\nGET /smuggled HTTP/1.1\r\nHost: a")]),
        refused("LF in a value", &[("x", "y\nz: 1")]),
        refused("CR in a value", &[("x", "y\rz: 1")]),
        refused("NUL in a value", &[("x", "y\0")]),
        refused("CRLF in a name", &[("x\r\ny", "z")]),
        refused("colon in a name", &[("transfer-encoding:chunked\r\nx", "z")]),
        refused("request as a name", &[("get /smuggled http/1.1", "z")]),
        refused("space in a name", &[("x y", "z")]),
        refused("upper case name", &[("X", "y")]),
        refused("empty name", &[("", "y")]),
        refused("CRLF in a cookie", &[("cookie", "a=1\r\nx: y")]),
        refused("coding", &[("transfer-encoding", "chunked")]),
        refused("coding: identity", &[("transfer-encoding", "identity")]),
        refused("connection", &[("connection", "close")]),
        refused("connection names a field", &[("connection", "content-length")]),
        refused("keep-alive", &[("keep-alive", "timeout=5")]),
        refused("proxy-connection", &[("proxy-connection", "keep-alive")]),
        refused("upgrade", &[("upgrade", "h2c")]),
        refused("te", &[("te", "gzip")]),
        refused("unknown pseudo-header", &[(":x", "y")]),
        refused("pseudo-header twice", &[(":path", "/smuggled")]),
        refused("pseudo-header after a field", &[("x", "y"), (":protocol", "websocket")]),
        refused("status in a request", &[(":status", "200")]),
        refused("another host", &[("host", "b")]),
        refused("two hosts", &[("host", "a"), ("host", "b")]),
        refused("the same host twice", &[("host", "a"), ("host", "a")]),
        refused("space after a value", &[("x", "y ")]),
        refused("tab before a value", &[("x", "\ty")]),
        refused("space before a length", &[("content-length", " 5")]),
        refused("space around a cookie", &[("cookie", " a=1")]),
        with("plain", &[("x", "y"), ("te", "trailers")], Some(HIDDEN), Some("POST /case 35")),
    ]
}

fn pseudo_headers() -> Vec<Case> {
    vec![
        pseudo("path with CRLF", ":path", "/case HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled", None),
        pseudo("path with LF", ":path", "/case\n", None),
        pseudo("path with a space", ":path", "/case /smuggled", None),
        pseudo("path with a version", ":path", "/case HTTP/1.1", None),
        pseudo("path with a tab", ":path", "/case\t", None),
        pseudo("path with NUL", ":path", "/case\0", None),
        pseudo("empty path", ":path", "", None),
        pseudo("path without slash", ":path", "smuggled", None),
        pseudo("absolute path", ":path", "http://b/smuggled", None),
        pseudo("asterisk", ":path", "*", None),
        pseudo("method with a space", ":method", "GET /smuggled HTTP/1.1\r\nx:", None),
        pseudo("method with CRLF", ":method", "GET\r\n", None),
        pseudo("empty method", ":method", "", None),
        pseudo("CONNECT with a path", ":method", "CONNECT", None),
        pseudo("authority with CRLF", ":authority", "a\r\nx: y", None),
        pseudo("authority with a slash", ":authority", "a/smuggled", None),
        pseudo("authority with a user", ":authority", "user@a", None),
        pseudo("authority with a space", ":authority", "a b", None),
        pseudo("empty authority", ":authority", "", None),
        pseudo("authority with two ports", ":authority", "a:80:80", None),
        pseudo("authority with a large port", ":authority", "a:99999", None),
        pseudo("authority with half an IPv6 address", ":authority", "[::1", None),
        pseudo("authority with a space after it", ":authority", "a ", None),
        pseudo("another scheme", ":scheme", "ftp", None),
        pseudo("the scheme of TLS", ":scheme", "https", None),
        pseudo("scheme with CRLF", ":scheme", "http\r\nx: y", None),
        pseudo("scheme with a path", ":scheme", "http://b/smuggled?", None),
        only("no path", &[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        only("no method", &[(":scheme", "http"), (":authority", "a"), (":path", "/case")]),
        only("no scheme", &[(":method", "GET"), (":authority", "a"), (":path", "/case")]),
        only("no authority", &[(":method", "GET"), (":scheme", "http"), (":path", "/case")]),
        only("no fields", &[]),
    ]
}

fn bodies() -> Vec<Case> {
    let length = |name, value, body| with(name, &[("content-length", value)], body, None);
    vec![
        length("length too short", "3", Some("hello")),
        length("length zero", "0", Some(HIDDEN)),
        length("length too long", "10", Some("hello")),
        length("length without body", "5", None),
        length("length: plus", "+5", Some("hello")),
        length("length: list", "5, 5", Some("hello")),
        length("length: word", "five", Some("hello")),
        with("two lengths", &[("content-length", "5"), ("content-length", "6")], Some("hello"), None),
        with("right length", &[("content-length", "5")], Some("hello"), Some("POST /case 5")),
        with("length and coding", &[("content-length", "5"), ("transfer-encoding", "chunked")], Some("hello"), None),
        trailed("a trailer", &[("x-t", "1")], Some("POST /case 5")),
        trailed("trailer: length", &[("content-length", "50")], Some("POST /case 5")),
        trailed(
            "trailer: host and user",
            &[("host", "evil"), ("authorization", "x"), ("x-real-ip", "::1")],
            Some("POST /case 5"),
        ),
        trailed("trailer: coding", &[("transfer-encoding", "chunked")], None),
        trailed("trailer: pseudo-header", &[(":path", "/smuggled")], None),
        trailed("trailer: CRLF", &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")], None),
        trailed("trailer: upper case", &[("X", "y")], None),
        trailed("trailer: space after a value", &[("x", "y ")], None),
    ]
}

fn marker() -> Case {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/marker")];
    Case { passes: Some("GET /marker 0"), ..only("marker", &fields) }
}

#[tokio::test]
async fn nothing_turns_into_another_request() -> Result<()> {
    let recorder = Recorder::start().await;
    let world = world(recorder.address)?;
    let cases: Vec<Case> = [fields(), pseudo_headers(), bodies()].into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut frames = Frames::open(world.http()).await?;
        // The connection may be closed while this is being sent.
        let _sent = frames.request(1, case).await;
        let _sent = frames.request(3, &marker()).await;
        let outcomes = tokio::time::timeout(Duration::from_secs(2), frames.outcomes()).await;
        let [own, next] = outcomes.with_context(|| format!("{}: no end", case.name))??;
        let seen = recorder.take();
        if let Err(error) = judge(case, &own, &next, &seen) {
            wrong.push(format!("{}: {error:#}: {own:?}, then {next:?}; the backend got {seen:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn judge(case: &Case, own: &Outcome, next: &Outcome, seen: &Seen) -> Result<()> {
    ensure!(seen.errors.is_empty(), "errors");
    let cut = seen.partial.concat();
    ensure!(!cut.contains("smuggled") && !cut.contains("marker"), "a piece");
    match case.passes {
        Some(line) => ensure!(own.body == line && !own.reset, "not passed"),
        // An error response, a reset, or a closed connection; nothing that looks like success.
        None => ensure!(own.status.is_none_or(|status| status != 0x88), "passed"),
    }
    let mut expected: Vec<&str> = case.passes.into_iter().collect();
    let mut requests: Vec<&str> = seen.requests.iter().map(String::as_str).collect();
    if next.status.is_some() {
        ensure!(next.body == "GET /marker 0", "another answer to the marker");
        expected.push("GET /marker 0");
    } else {
        // The marker may have been in flight when the connection was closed.
        requests.retain(|line| *line != "GET /marker 0");
    }
    // Streams are served concurrently.
    requests.sort_unstable();
    expected.sort_unstable();
    ensure!(requests == expected, "other requests");
    Ok(())
}
