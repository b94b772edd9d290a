//! HTTP/2 upstream: responds to each request with the same fields and a body; for gRPC, with trailers.

use std::os::fd::OwnedFd;

use super::Closed;
use crate::load::h2::frame::{Frame, Reader};
use crate::load::h2::hpack;
use crate::load::h2::wire::Wire;
use crate::load::link::{Buffers, Link, LinkError};
use crate::load::plan::grpc_message;
use crate::load::work::Work;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Maximum number of concurrent requests.
const STREAMS_MAX: usize = 4096;
/// Limit on unsent output above which no input is read.
const OUT_MAX: usize = 1 << 20;
const CONTENT_TYPE: u8 = 31;

/// The prepared responses.
#[derive(Debug)]
pub(super) struct Answers {
    head: Vec<u8>,
    content: Vec<u8>,
    trailers: Vec<u8>,
    /// For requests with an unexpected body length.
    wrong: Vec<u8>,
    /// The expected body length of requests.
    expected: u64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct H2 {
    wire: Wire,
    reader: Reader,
    streams: Streams,
    /// Number of preface bytes received.
    preface: usize,
}

/// Incomplete requests.
#[derive(Debug, Default)]
struct Streams(Vec<Stream>);

#[derive(Clone, Copy, Debug)]
struct Stream {
    id: u32,
    got: u64,
    /// Window updates received before the response.
    more: u32,
}

impl Answers {
    /// For gRPC or, without a proxy, for plain HTTP/2.
    pub(super) fn new(work: &Work, grpc: bool) -> Self {
        let (mut head, mut trailers, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        hpack::indexed(&mut head, hpack::STATUS_200);
        hpack::named(&mut head, CONTENT_TYPE, if grpc { "application/grpc" } else { "application/json" });
        if grpc {
            hpack::literal(&mut trailers, "grpc-status", "0");
        }
        hpack::named(&mut wrong, hpack::STATUS_200, "400");
        let body = |length: u64| if grpc { grpc_message(length) } else { vec![b'x'; length as usize] };
        let expected = work.up() + if grpc { 5 } else { 0 };
        Self { head, content: body(work.down()), trailers, wrong, expected }
    }
}

impl H2 {
    pub(super) fn new() -> Self {
        Self { wire: Wire::server(), reader: Reader::default(), streams: Streams::default(), preface: 0 }
    }

    /// Reads and writes; returns the number of requests whose response was started.
    pub(super) fn ready(
        &mut self,
        link: &mut Link,
        answers: &Answers,
        buffers: &mut Buffers,
        epoll: &OwnedFd,
    ) -> Result<u64, Closed> {
        let mut answered = 0;
        if self.wire.out.len() < OUT_MAX {
            answered = self.read(link.read(buffers)?, answers)?;
        }
        self.wire.pump(&answers.content, &answers.trailers);
        self.wire.flush(link)?;
        link.watch(epoll, self.wire.out.len() < OUT_MAX, self.wire.is_sending()).map_err(|_| Closed)?;
        Ok(answered)
    }

    /// Parses bytes; returns the number of completed requests.
    fn read(&mut self, bytes: &[u8], answers: &Answers) -> Result<u64, LinkError> {
        let missing = PREFACE.get(self.preface..).unwrap_or_default();
        let (preface, frames) = bytes.split_at(missing.len().min(bytes.len()));
        if !missing.starts_with(preface) {
            return Err("the preface is wrong");
        }
        self.preface += preface.len();
        let Self { wire, reader, streams, .. } = self;
        let mut answered = 0;
        reader.push(frames, &mut |frame| {
            if let Some(complete) = streams.take(frame, wire)? {
                answer(wire, complete, answers);
                answered += 1;
            }
            Ok(())
        })?;
        Ok(answered)
    }
}

impl Streams {
    /// Processes a frame; returns a request completed by it.
    fn take(&mut self, frame: Frame<'_>, wire: &mut Wire) -> Result<Option<Stream>, LinkError> {
        let (id, ended) = match frame {
            Frame::Headers { id, end, .. } => {
                // A second header block contains trailers.
                if self.find(id).is_none() {
                    if self.0.len() == STREAMS_MAX {
                        return Err("there are too many streams");
                    }
                    self.0.push(Stream { id, got: 0, more: 0 });
                }
                (id, end)
            }
            Frame::Data { id, bytes, end, .. } => {
                wire.take(frame)?;
                if let Some(stream) = self.find(id).and_then(|at| self.0.get_mut(at)) {
                    stream.got += u64::from(bytes);
                }
                (id, end)
            }
            Frame::Window { id, more } if id > 0 => {
                match self.find(id).and_then(|at| self.0.get_mut(at)) {
                    Some(stream) => stream.more = stream.more.saturating_add(more),
                    None => wire.take(frame)?,
                }
                (id, false)
            }
            Frame::Reset { id, .. } => {
                self.0.retain(|stream| stream.id != id);
                wire.take(frame)?;
                (id, false)
            }
            Frame::Settings { .. } | Frame::Ping { .. } | Frame::GoAway { .. } | Frame::Window { .. } => {
                wire.take(frame)?;
                (0, false)
            }
        };
        Ok(if ended { self.find(id).map(|at| self.0.swap_remove(at)) } else { None })
    }

    /// The most recent ones are looked up most often.
    fn find(&self, id: u32) -> Option<usize> {
        self.0.iter().rposition(|stream| stream.id == id)
    }
}

fn answer(wire: &mut Wire, stream: Stream, answers: &Answers) {
    if stream.got != answers.expected {
        wire.headers(stream.id, &[&answers.wrong], true);
        return;
    }
    let empty = answers.content.is_empty();
    wire.headers(stream.id, &[&answers.head], empty);
    if !empty {
        wire.begin(stream.id, stream.more);
    }
}
