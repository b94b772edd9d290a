//! Bodies: what in a buffer is data, and where the body ends.

use super::framing::Framing;
use super::parse::{HeadError, HeadLimits, LENIENT, STRICT, parse_fields};
use crate::headers::HeaderList;

/// Chunk lines longer than this are refused (extensions included).
const CHUNK_LINE_MAX: usize = 4096;

/// Limits of a trailer section.
const TRAILER_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, line_bytes_max: 0, header_count_max: 100 };

/// Why bytes are not the announced body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not a chunk size, or one too large.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk without CRLF after its data.
    #[error("malformed chunk end")]
    ChunkEnd,
    /// The chunk line is too long.
    #[error("chunk line too long")]
    ChunkLine,
    /// The trailers are malformed or too large.
    #[error("malformed trailers: {0}")]
    Trailers(HeadError),
    /// The connection ended inside the body.
    #[error("the connection ended inside the body")]
    Truncated,
}

/// What the next bytes of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Drop `skip` bytes of framing; then come `len` bytes of data (at least one).
    Data {
        /// Bytes of framing.
        skip: usize,
        /// Bytes of data after them.
        len: usize,
    },
    /// Drop `skip` bytes of framing, then more bytes are needed.
    More {
        /// Bytes of framing.
        skip: usize,
    },
    /// Drop `skip` bytes of framing; the body is complete.
    End {
        /// Bytes of framing.
        skip: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// Finds data in the bytes of a body. After a [`Step::Data`] the caller reports with [`BodyDecoder::consumed`] how much
/// of it was taken, and drops that from the buffer too.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Lines of chunks and trailers may end in LF alone.
    lf: bool,
}

impl BodyDecoder {
    /// A decoder for the body of a request: its lines end in CRLF.
    pub const fn new(framing: Framing) -> Self {
        Self::with_lines(framing, false)
    }

    /// A decoder for the body of a response: its lines may end in LF alone, like those of its head (see
    /// [`parse_response`](super::parse_response)). A CR that is no part of CRLF is an error all the same.
    pub const fn of_response(framing: Framing) -> Self {
        Self::with_lines(framing, true)
    }

    const fn with_lines(framing: Framing, lf: bool) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, lf }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is the end of the body.
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(n) => Some(n),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// What the bytes at the start of `buf` are. Trailer fields are added to `trailers`.
    pub fn step(&mut self, buf: &[u8], trailers: &mut HeaderList) -> Result<Step, BodyError> {
        let mut skip = 0;
        loop {
            let rest = buf.get(skip..).unwrap_or_default();
            match self.state {
                State::Done => return Ok(Step::End { skip }),
                State::Length(left) | State::ChunkData(left) if !rest.is_empty() => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    return Ok(Step::Data { skip, len });
                }
                State::UntilClose if !rest.is_empty() => return Ok(Step::Data { skip, len: rest.len() }),
                State::Length(_) | State::ChunkData(_) | State::UntilClose => return Ok(Step::More { skip }),
                State::ChunkLine => match chunk_line(rest, self.lf)? {
                    None => return Ok(Step::More { skip }),
                    Some((used, 0)) => {
                        skip += used;
                        self.state = State::Trailers;
                    }
                    Some((used, size)) => {
                        skip += used;
                        self.state = State::ChunkData(size);
                    }
                },
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skip += 2;
                        self.state = State::ChunkLine;
                    }
                    [b'\n', ..] if self.lf => {
                        skip += 1;
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => return Ok(Step::More { skip }),
                    _ => return Err(BodyError::ChunkEnd),
                },
                State::Trailers => match parse_trailers(rest, self.lf, trailers) {
                    Err(error) => return Err(BodyError::Trailers(error)),
                    Ok(Some(used)) => {
                        skip += used;
                        self.state = State::Done;
                    }
                    Ok(None) if rest.len() > TRAILER_LIMITS.head_bytes_max => {
                        return Err(BodyError::Trailers(HeadError::TooLarge));
                    }
                    Ok(None) => return Ok(Step::More { skip }),
                },
            }
        }
    }

    /// `count` bytes of data were taken.
    pub fn consumed(&mut self, count: usize) {
        let count = count as u64;
        self.state = match self.state {
            State::Length(left) if left <= count => State::Done,
            State::Length(left) => State::Length(left - count),
            State::ChunkData(left) if left <= count => State::ChunkEnd,
            State::ChunkData(left) => State::ChunkData(left - count),
            other => other,
        };
    }

    /// The connection ended.
    pub fn closed(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }
}

fn parse_trailers(buf: &[u8], lf: bool, trailers: &mut HeaderList) -> Result<Option<usize>, HeadError> {
    if lf {
        parse_fields::<LENIENT>(buf, 0, &TRAILER_LIMITS, trailers)
    } else {
        parse_fields::<STRICT>(buf, 0, &TRAILER_LIMITS, trailers)
    }
}

/// Length of the line with its end, and the chunk size; `None` when incomplete. Extensions are ignored
/// (RFC 9112 section 7.1.1), but must be free of control characters.
fn chunk_line(buf: &[u8], lenient: bool) -> Result<Option<(usize, u64)>, BodyError> {
    let Some(at) = memchr::memchr(b'\n', buf) else {
        return if buf.len() > CHUNK_LINE_MAX { Err(BodyError::ChunkLine) } else { Ok(None) };
    };
    if at > CHUNK_LINE_MAX {
        return Err(BodyError::ChunkLine);
    }
    let line = buf.get(..at).unwrap_or_default();
    let line = match line.strip_suffix(b"\r") {
        Some(line) => line,
        None if lenient => line,
        None => return Err(BodyError::ChunkSize),
    };
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, rest) = line.split_at_checked(digits).unwrap_or_default();
    // Some servers pad sizes, with zeros before them or blanks behind (nginx accepts both).
    let zeros = if lenient { size.iter().take_while(|b| **b == b'0').count() } else { 0 };
    if digits == 0 || digits - zeros > 15 {
        return Err(BodyError::ChunkSize);
    }
    let is_extension = match rest.iter().find(|b| !matches!(b, b' ' | b'\t')) {
        Some(first) => *first == b';',
        None => rest.is_empty() || lenient,
    };
    if !is_extension || !crate::token::is_value(rest) {
        return Err(BodyError::ChunkSize);
    }
    let size = size.iter().fold(0_u64, |n, d| n << 4 | u64::from((*d as char).to_digit(16).unwrap_or(0)));
    Ok(Some((at + 1, size)))
}

/// Writes the line before a chunk of `len` bytes. The caller writes the data and a CRLF after it.
pub fn write_chunk_head(len: usize, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(HEX.get((len >> (place * 4)) & 15).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}
