mod bounds;
mod ends;
mod simulation;
mod violations;
mod windows;

use std::task::{Context, Waker};

use cardinal_http::hpack::Encoder;
use cardinal_http::{Name, ResponseHead};

use super::frame::{self, FrameHead, HEAD, PREFACE, flag, kind};
use super::state::{Accepted, Role, Settings, State};

pub(super) const SETTINGS: Settings =
    Settings { stream_window: 64 * 1024, connection_window: 256 * 1024, streams_max: 10, header_list_max: 8 * 1024 };

/// A parsed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// A 32-bit number of the payload.
    pub(super) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// The state of a server, with a hand-written client side.
pub(super) struct Hand {
    pub(super) state: State,
    pub(super) encoder: Encoder,
    pub(super) now_ms: u64,
    /// Unparsed bytes: the start of a frame.
    rest: Vec<u8>,
}

impl Hand {
    /// A connection after the prefaces.
    pub(super) fn new() -> Self {
        Self::with(SETTINGS)
    }

    pub(super) fn with(settings: Settings) -> Self {
        let mut hand = Self::silent(settings);
        hand.give(PREFACE);
        hand.send(kind::SETTINGS, 0, 0, b"");
        assert_eq!(hand.frames().iter().map(|f| f.kind).collect::<Vec<_>>(), [4, 8, 4]);
        hand
    }

    pub(super) fn silent(settings: Settings) -> Self {
        let state = State::new(Role::Server, settings, Vec::new());
        Self { state, encoder: Encoder::new(), now_ms: 1, rest: Vec::new() }
    }

    /// Passes bytes from the client.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if self.state.dead.is_some() {
            return;
        }
        self.rest.extend_from_slice(bytes);
        if let Ok(used) = self.state.receive(&self.rest, self.now_ms) {
            self.rest.drain(..used);
        }
    }

    /// Passes a frame from the client.
    pub(super) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::head(&mut bytes, payload.len(), kind, flags, stream);
        bytes.extend_from_slice(payload);
        self.give(&bytes);
    }

    /// A header block.
    pub(super) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        self.encoder.start(&mut out);
        for (name, value) in fields {
            // A literal field without indexing and without Huffman coding.
            out.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                out.push(u8::try_from(text.len()).unwrap());
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    /// Sends a request with these fields in addition to the usual ones.
    pub(super) fn request(&mut self, stream: u32, end: bool, fields: &[(&str, &str)]) {
        let mut all = vec![(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        all.extend_from_slice(fields);
        let block = self.block(&all);
        self.send(kind::HEADERS, flag::END_HEADERS | u8::from(end), stream, &block);
    }

    pub(super) fn accept(&mut self) -> Accepted {
        self.state.accepted.pop_front().expect("a request")
    }

    /// Sends a request that is accepted; returns its slot.
    pub(super) fn open(&mut self, stream: u32, end: bool) -> u32 {
        self.request(stream, end, &[]);
        self.accept().slot
    }

    /// Responds with a head.
    pub(super) fn answer(&mut self, slot: u32, end: bool) {
        let mut head = ResponseHead::new(200);
        assert!(head.headers.append(b"x", b"y"));
        self.state.send_response(slot, &head, end).unwrap();
    }

    /// Sends part of a body; returns the number of bytes taken.
    pub(super) fn body(&mut self, slot: u32, bytes: &[u8]) -> usize {
        match self.state.poll_send(slot, &Context::from_waker(Waker::noop()), bytes) {
            std::task::Poll::Ready(sent) => sent.unwrap(),
            std::task::Poll::Pending => 0,
        }
    }

    /// The frames sent by the server since the last call.
    pub(super) fn frames(&mut self) -> Vec<Frame> {
        let out = std::mem::take(&mut self.state.out);
        self.state.base += out.len() as u64;
        let (mut rest, mut frames) = (&out[..], Vec::new());
        while let Some(head) = FrameHead::parse(rest) {
            let payload = rest[HEAD..HEAD + head.length].to_vec();
            frames.push(Frame { kind: head.kind, flags: head.flags, stream: head.stream, payload });
            rest = &rest[HEAD + head.length..];
        }
        assert!(rest.is_empty());
        frames
    }

    /// The codes of streams reset by the server, and of GOAWAY.
    pub(super) fn codes(&mut self) -> (Vec<(u32, u32)>, Option<u32>) {
        let frames = self.frames();
        let resets = frames.iter().filter(|f| f.kind == kind::RST_STREAM).map(|f| (f.stream, f.number(0))).collect();
        (resets, frames.iter().find(|f| f.kind == kind::GOAWAY).map(|f| f.number(4)))
    }
}

#[test]
fn a_request_and_its_answer() {
    let mut hand = Hand::new();
    hand.request(1, false, &[("content-length", "5"), ("cookie", "a=1"), ("x", "s p"), ("cookie", "b=2")]);
    hand.send(kind::DATA, flag::PADDED, 1, b"\x03helpad");
    hand.send(kind::DATA, flag::END_STREAM, 1, b"lo");
    let Accepted { slot, head, info } = hand.accept();
    assert_eq!((info.length, info.oversized, info.unreadable), (Some(5), false, false));
    assert_eq!((head.path(), head.authority()), (&b"/"[..], Some(&b"a"[..])));
    let fields: Vec<_> = head.headers.iter().map(|(n, v)| (str::from_utf8(n).unwrap(), v.to_vec())).collect();
    let text =
        |fields: &[(&'static str, &str)]| fields.iter().map(|(n, v)| (*n, v.as_bytes().to_vec())).collect::<Vec<_>>();
    assert_eq!(fields, text(&[("host", "a"), ("content-length", "5"), ("x", "s p"), ("cookie", "a=1; b=2")]));
    assert_eq!(head.headers.known(Name::ContentLength), Some(&b"5"[..]));
    assert_eq!(hand.state.streams.get(slot).unwrap().body.filled(), b"hello");
    hand.answer(slot, false);
    // Body data is joined into one frame as long as nothing of it has been sent; the last part ends the stream.
    assert_eq!((hand.body(slot, b"wor"), hand.body(slot, b"ld")), (3, 2));
    hand.state.finish(slot, None).unwrap();
    let frames = hand.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].kind, frames[0].flags), (kind::HEADERS, flag::END_HEADERS));
    let data = Frame { kind: kind::DATA, flags: flag::END_STREAM, stream: 1, payload: b"world".to_vec() };
    assert_eq!(frames[1], data);
    assert_eq!((hand.state.streams.open_count(), hand.state.streams.used_count()), (0, 1));
    hand.state.release(slot, 5);
    assert_eq!(hand.state.streams.used_count(), 0);
    assert!(hand.frames().is_empty());
}

#[test]
fn an_end_of_its_own_follows_what_has_left() {
    let mut hand = Hand::new();
    let slot = hand.open(1, true);
    hand.answer(slot, false);
    assert_eq!(hand.body(slot, b"one"), 3);
    assert_eq!(hand.frames().len(), 2);
    assert_eq!(hand.body(slot, b"two"), 3);
    assert_eq!(hand.frames()[0].payload, b"two");
    hand.state.finish(slot, None).unwrap();
    let end = Frame { kind: kind::DATA, flags: flag::END_STREAM, stream: 1, payload: Vec::new() };
    assert_eq!(hand.frames(), [end]);
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut hand = Hand::silent(SETTINGS);
    let mut bytes = PREFACE.to_vec();
    frame::settings(&mut bytes, &[(3, 7), (99, 1)]);
    let block = hand.block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    for (kind, flags, part) in [(kind::HEADERS, 0, &block[..9]), (kind::CONTINUATION, 4, &block[9..])] {
        frame::head(&mut bytes, part.len(), kind, flags, 1);
        bytes.extend_from_slice(part);
    }
    frame::head(&mut bytes, 6, kind::DATA, flag::PADDED | flag::END_STREAM, 1);
    bytes.extend_from_slice(b"\x02abc\0\0");
    for byte in bytes {
        hand.give(&[byte]);
    }
    assert_eq!(hand.state.dead, None);
    let slot = hand.accept().slot;
    let stream = hand.state.streams.get(slot).unwrap();
    assert_eq!((stream.body.filled(), stream.receive_done), (&b"abc"[..], true));
}

#[test]
fn a_head_longer_than_a_frame_goes_on_in_others() {
    let mut hand = Hand::new();
    let slot = hand.open(1, true);
    let mut head = ResponseHead::new(200);
    for at in 0..30_u8 {
        assert!(head.headers.append(b"x-long", &vec![b'a' + at % 26; 1500]));
    }
    hand.state.send_response(slot, &head, true).unwrap();
    let frames = hand.frames();
    assert!(frames.len() > 2 && frames.iter().all(|f| f.payload.len() <= 16_384 && f.stream == 1));
    assert_eq!((frames[0].kind, frames[0].flags), (kind::HEADERS, flag::END_STREAM));
    let (last, middle) = frames[1..].split_last().unwrap();
    assert_eq!((last.kind, last.flags), (kind::CONTINUATION, flag::END_HEADERS));
    assert!(middle.iter().all(|f| (f.kind, f.flags) == (kind::CONTINUATION, 0)));
}
