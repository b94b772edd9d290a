//! A backend with its own parser, which is stricter than any server and shares no code with the gateway.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_base::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The data received by the backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Complete requests: `METHOD target length`.
    pub(super) requests: Vec<String>,
    /// Their heads and bodies, unchanged.
    pub(super) raw: Vec<String>,
    /// Violations of rules.
    pub(super) errors: Vec<String>,
    /// Incomplete requests at the end of connections.
    pub(super) partial: Vec<String>,
}

/// The backend. It responds to each request with the line that it records.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let log = Arc::clone(&seen);
        let accepting = task::spawn("recorder", async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(tcp, Arc::clone(&log)));
            }
        });
        Self { address, seen, accepting }
    }

    /// The data received since the last call.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut tcp: TcpStream, log: Arc<Mutex<Seen>>) {
    let note = |change: &dyn Fn(&mut Seen)| change(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
    let mut bytes = Vec::new();
    loop {
        match read_request(&bytes) {
            Ok(Some((line, used))) => {
                let raw = bytes[..used].escape_ascii().to_string();
                bytes.drain(..used);
                note(&|seen| {
                    seen.requests.push(line.clone());
                    seen.raw.push(raw.clone());
                });
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len());
                let body = if line.starts_with("HEAD ") { answer.len() - line.len() } else { answer.len() };
                if tcp.write_all(&answer.as_bytes()[..body]).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                if !matches!(tcp.read_buf(&mut bytes).await, Ok(1..)) {
                    if !bytes.is_empty() {
                        note(&|seen| seen.partial.push(bytes.escape_ascii().to_string()));
                    }
                    return;
                }
            }
            Err(error) => {
                note(&|seen| seen.errors.push(format!("{error}: {}", bytes.escape_ascii())));
                return;
            }
        }
    }
}

/// The first request in `bytes` and its length; `None` if it is incomplete.
fn read_request(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if has_control(&without_line_ends(bytes)) { Err("a control byte".to_owned()) } else { Ok(None) };
    };
    let mut lines = Vec::new();
    for line in split(&bytes[..end]) {
        if has_control(line) {
            return Err("a control byte in a line".to_owned());
        }
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(format!("request line {:?}", lines[0])) };
    if !target.starts_with('/') || !target.is_ascii() {
        return Err(format!("target {target:?}"));
    }
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in &lines[1..] {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("field {line:?}"))?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b)) {
            return Err(format!("name {name:?}"));
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_some() => return Err("two lengths".to_owned()),
            "content-length" if value.bytes().all(|b| b.is_ascii_digit()) => {
                length = Some(value.parse::<usize>().map_err(|e| e.to_string())?);
            }
            "content-length" => return Err(format!("length {value:?}")),
            "transfer-encoding" if chunked || value != "chunked" => return Err(format!("coding {value:?}")),
            "transfer-encoding" => chunked = true,
            "host" => hosts += 1,
            "upgrade" | "http2-settings" | "expect" | "keep-alive" | "proxy-connection" => {
                return Err(format!("{name} was passed on"));
            }
            _ => {}
        }
    }
    if chunked && length.is_some() || hosts != 1 {
        return Err("two framings, or not one host".to_owned());
    }
    let rest = &bytes[end + 4..];
    let body = if chunked { read_chunks(rest)? } else { rest.get(..length.unwrap_or(0)).map(|b| (b.len(), b.len())) };
    Ok(body.map(|(count, used)| (format!("{method} {target} {count}"), end + 4 + used)))
}

/// Fields that are not allowed in trailers.
const FORBIDDEN: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "authorization",
    "cookie",
    "x-forwarded-for",
    "x-real-ip",
    "content-type",
];

/// Length of a chunked body, decoded and encoded; `None` if it is incomplete.
fn read_chunks(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let (mut at, mut count) = (0, 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let digits = &bytes[at..at + end];
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("chunk size {}", digits.escape_ascii()));
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(digits), 16).map_err(|e| e.to_string())?;
        at += end + 2;
        if size == 0 {
            break;
        }
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(other) => return Err(format!("chunk end {}", other.escape_ascii())),
        }
        count += size;
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + end]).to_ascii_lowercase();
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((count, at)));
        }
        let (name, _) = line.split_once(": ").ok_or_else(|| format!("trailer {line:?}"))?;
        if FORBIDDEN.contains(&name) {
            return Err(format!("trailer {line:?}"));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), bytes);
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

fn has_control(line: &[u8]) -> bool {
    line.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
}

/// Bytes of an incomplete head without its line ends.
fn without_line_ends(bytes: &[u8]) -> Vec<u8> {
    let mut lines = split(bytes).concat();
    if lines.last() == Some(&b'\r') {
        lines.pop();
    }
    lines
}
