//! The HTTP/1.1 codec: heads, framing, chunked bodies. Sans-io: bytes in, places in them out.
//!
//! Strict where leniency is ambiguous (RFC 9112 sections 2.2, 5, 6, 7 and 11.2): two different lengths, a length with
//! `Transfer-Encoding`, a bare CR, line folding, space before a colon are refused; a bare LF is in requests. A response's
//! lines may end in LF alone, because old servers write them so.

mod body;
mod framing;
mod parse;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyError, Step, write_chunk_head};
pub use framing::{
    Framing, FramingError, announces_body, content_length, keep_alive, request_framing, response_framing,
    wants_continue,
};
pub use parse::{HeadError, HeadLimits, Parsed, parse_request, parse_response};
