//! What a request was when it arrived.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Value, json};

use crate::message::Fields;

/// Bodies up to this length stand in the report as text.
const TEXT_MAX: usize = 4096;

/// Who sent it.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) connection: u64,
    pub(super) sni: Option<String>,
    pub(super) client_certificate: bool,
}

/// What a request was when it arrived.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Name of the server.
    pub server: String,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Number of the request on it, from 1.
    pub request: u64,
    /// Server name of the TLS handshake.
    pub sni: Option<String>,
    /// Whether the peer showed a certificate.
    pub client_certificate: bool,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// Method.
    pub method: String,
    /// Target as it came; in HTTP/2 path and query.
    pub target: String,
    /// Authority of an HTTP/2 request or an absolute target; else the `Host` field.
    pub authority: String,
    /// Path as it came.
    pub path: String,
    /// Query, without `?`.
    pub query: Option<String>,
    /// Fields in their order. HTTP/2 keeps the order only among fields of one name.
    pub headers: Fields,
    /// Trailers.
    pub trailers: Fields,
    /// Length of the body.
    pub body_bytes: u64,
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: String,
    /// The body, when it is short and UTF-8.
    pub body_text: Option<String>,
}

impl Report {
    /// As JSON; `headers` and `trailers` are lists of name and value.
    pub fn to_json(&self) -> Value {
        json!({
            "server": self.server,
            "connection": self.connection,
            "request": self.request,
            "sni": self.sni,
            "client_certificate": self.client_certificate,
            "version": self.version,
            "method": self.method,
            "target": self.target,
            "authority": self.authority,
            "path": self.path,
            "query": self.query,
            "headers": self.headers.0,
            "trailers": self.trailers.0,
            "body": { "bytes": self.body_bytes, "sha256": self.body_sha256, "text": self.body_text },
        })
    }
}

/// Takes note of a body as it passes.
pub(super) struct BodyNote {
    bytes: u64,
    hash: Context,
    start: Vec<u8>,
}

impl BodyNote {
    pub(super) fn new() -> Self {
        Self { bytes: 0, hash: Context::new(&SHA256), start: Vec::new() }
    }

    pub(super) fn add(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        self.hash.update(part);
        let room = (TEXT_MAX + 1).saturating_sub(self.start.len()).min(part.len());
        self.start.extend_from_slice(&part[..room]);
    }

    pub(super) fn finish(self, report: &mut Report) {
        report.body_bytes = self.bytes;
        report.body_sha256 = hex(self.hash.finish().as_ref());
        report.body_text = String::from_utf8(self.start).ok().filter(|text| text.len() <= TEXT_MAX);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
