//! gRPC on raw HTTP/2: messages with a five-byte prefix, a status in the trailers.

use anyhow::{Context as _, Result, ensure};

use crate::message::{Fields, Response};

/// A message as it goes over the wire, uncompressed.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message of a test is short");
    let mut out = vec![0];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// The messages in `wire`.
///
/// # Errors
/// When the last one is cut off, or one is compressed.
pub fn unframe(mut wire: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = wire.split_first_chunk::<5>() {
        ensure!(prefix[0] == 0, "a compressed message");
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        messages.push(rest.get(..length).context("a message is cut off")?.to_vec());
        wire = &rest[length..];
    }
    ensure!(wire.is_empty(), "the prefix of a message is cut off");
    Ok(messages)
}

/// What a call gave.
#[derive(Clone, Debug)]
pub struct GrpcReply {
    /// `grpc-status`: from the trailers, or from the head when there are only trailers.
    pub status: u32,
    /// `grpc-message`.
    pub message: Option<String>,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
    /// Fields of the head.
    pub headers: Fields,
    /// Trailers.
    pub trailers: Fields,
}

impl TryFrom<Response> for GrpcReply {
    type Error = anyhow::Error;

    fn try_from(response: Response) -> Result<Self> {
        ensure!(response.status == 200, "status {} with {}", response.status, response.text());
        let field = |name: &str| response.trailers.get(name).or_else(|| response.headers.get(name)).map(str::to_owned);
        let status = field("grpc-status").context("no grpc-status")?;
        Ok(Self {
            status: status.parse().with_context(|| format!("grpc-status {status}"))?,
            message: field("grpc-message"),
            messages: unframe(&response.body)?,
            headers: response.headers,
            trailers: response.trailers,
        })
    }
}
