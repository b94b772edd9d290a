//! Parses and writes frames.

use crate::load::link::LinkError;

/// Maximum length of a received payload; peers must not send longer ones by default.
const PAYLOAD_MAX: usize = 16 * 1024;
/// Maximum length of a header block.
const BLOCK_MAX: usize = 64 * 1024;
const HEAD: usize = 9;

/// Frame types.
pub(in crate::load) const DATA: u8 = 0;
pub(in crate::load) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(in crate::load) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
pub(in crate::load) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(in crate::load) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags.
pub(in crate::load) const END_STREAM: u8 = 1;
pub(in crate::load) const ACK: u8 = 1;
pub(in crate::load) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A parsed frame. Irrelevant frames are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Frame<'a> {
    /// A complete header block.
    Headers {
        id: u32,
        block: &'a [u8],
        end: bool,
    },
    /// Bytes of a body, or a part of them; `flow` of them count for flow control. `end`: these are the last bytes.
    Data {
        id: u32,
        bytes: u32,
        flow: u32,
        end: bool,
    },
    /// A stream reset.
    Reset {
        id: u32,
        code: u32,
    },
    /// Pairs of a number and a value.
    Settings {
        ack: bool,
        pairs: &'a [u8],
    },
    Ping {
        ack: bool,
        text: [u8; 8],
    },
    /// Streams after this one were not processed.
    GoAway {
        last: u32,
    },
    /// Id 0 is the connection.
    Window {
        id: u32,
        more: u32,
    },
}

/// Splits bytes into frames.
#[derive(Debug, Default)]
pub(in crate::load) struct Reader {
    /// An incomplete frame.
    partial: Vec<u8>,
    /// The DATA frame being received: its stream, its remaining length, and whether it is the last.
    data: Option<(u32, u32, bool)>,
    /// The incomplete header block: its stream, and whether it ends the body.
    block: Option<(u32, bool, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    id: u32,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, LinkError> {
        let Some(&[a, b, c, kind, flags, d, e, f, g]) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > PAYLOAD_MAX {
            return Err("a frame is too long");
        }
        Ok(Some(Self { length, kind, flags, id: u32::from_be_bytes([d & 0x7f, e, f, g]) }))
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the payload can be processed in parts.
    fn is_plain_data(self) -> bool {
        self.kind == DATA && !self.has(PADDED)
    }
}

impl Reader {
    /// Parses bytes and passes on complete frames.
    pub(in crate::load) fn push(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        loop {
            if let Some((id, left, end)) = self.data {
                let n = left.min(bytes.len() as u32);
                let done = n == left;
                if n > 0 || done {
                    take(Frame::Data { id, bytes: n, flow: n, end: end && done })?;
                }
                self.data = (!done).then_some((id, left - n, end));
                bytes = bytes.get(n as usize..).unwrap_or_default();
                if !done {
                    return Ok(());
                }
                continue;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            bytes = if self.partial.is_empty() { self.direct(bytes, take)? } else { self.joined(bytes, take)? };
        }
    }

    /// Parses a frame that begins here, or stores its incomplete part; returns the rest.
    fn direct<'b>(
        &mut self,
        bytes: &'b [u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), LinkError>,
    ) -> Result<&'b [u8], LinkError> {
        if let Some(head) = Head::parse(bytes)? {
            if head.is_plain_data() {
                self.data = Some((head.id, head.length as u32, head.has(END_STREAM)));
                return Ok(bytes.get(HEAD..).unwrap_or_default());
            }
            if let Some((frame, rest)) = bytes.split_at_checked(HEAD + head.length) {
                self.whole(head, frame.get(HEAD..).unwrap_or_default(), take)?;
                return Ok(rest);
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(&[])
    }

    /// Continues an incomplete frame; returns the rest.
    fn joined<'b>(
        &mut self,
        bytes: &'b [u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), LinkError>,
    ) -> Result<&'b [u8], LinkError> {
        let rest = self.fill(bytes, HEAD);
        let Some(head) = Head::parse(&self.partial)? else { return Ok(rest) };
        if head.is_plain_data() {
            self.partial.clear();
            self.data = Some((head.id, head.length as u32, head.has(END_STREAM)));
            return Ok(rest);
        }
        let rest = self.fill(rest, HEAD + head.length);
        if self.partial.len() == HEAD + head.length {
            let mut frame = std::mem::take(&mut self.partial);
            self.whole(head, frame.get(HEAD..).unwrap_or_default(), take)?;
            frame.clear();
            self.partial = frame;
        }
        Ok(rest)
    }

    /// Appends to the frame up to this length; returns the rest.
    fn fill<'b>(&mut self, bytes: &'b [u8], length: usize) -> &'b [u8] {
        let n = length.saturating_sub(self.partial.len()).min(bytes.len());
        let (more, rest) = bytes.split_at(n);
        self.partial.extend_from_slice(more);
        rest
    }

    fn whole(
        &mut self,
        head: Head,
        payload: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        if self.block.is_some() != (head.kind == CONTINUATION) {
            return Err("a block of fields is interrupted");
        }
        let id = head.id;
        match head.kind {
            DATA => {
                let bytes = unpadded(head, payload)?.len() as u32;
                take(Frame::Data { id, bytes, flow: payload.len() as u32, end: head.has(END_STREAM) })
            }
            HEADERS => {
                let block = unpadded(head, payload)?;
                let skip = if head.has(PRIORITY) { 5 } else { 0 };
                let block = block.get(skip..).ok_or("a frame is too short")?;
                let end = head.has(END_STREAM);
                if !head.has(END_HEADERS) {
                    self.block = Some((id, end, block.to_vec()));
                    return Ok(());
                }
                take(Frame::Headers { id, block, end })
            }
            CONTINUATION => {
                let Some((first, end, mut block)) = self.block.take() else { return Ok(()) };
                block.extend_from_slice(payload);
                if first != id || block.len() > BLOCK_MAX {
                    return Err("a block of fields is interrupted or too long");
                }
                if head.has(END_HEADERS) {
                    return take(Frame::Headers { id, block: &block, end });
                }
                self.block = Some((id, end, block));
                Ok(())
            }
            RST_STREAM => take(Frame::Reset { id, code: number(payload, 0)? }),
            SETTINGS => take(Frame::Settings { ack: head.has(ACK), pairs: payload }),
            PUSH_PROMISE => Err("a push that nobody asked for"),
            PING => {
                let text = payload.try_into().map_err(|_| "a ping has the wrong length")?;
                take(Frame::Ping { ack: head.has(ACK), text })
            }
            GOAWAY => take(Frame::GoAway { last: number(payload, 0)? & 0x7fff_ffff }),
            WINDOW_UPDATE => take(Frame::Window { id, more: number(payload, 0)? & 0x7fff_ffff }),
            _ => Ok(()),
        }
    }
}

fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], LinkError> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or("a frame is too short")?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or("a frame is too short")?;
    Ok(rest.get(..length).unwrap_or_default())
}

/// The 32-bit number at a position.
pub(in crate::load) fn number(bytes: &[u8], at: usize) -> Result<u32, LinkError> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or("a frame is too short")?;
    Ok(u32::from_be_bytes(*four))
}

/// Writes a frame header.
pub(in crate::load) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, id: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = id.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        head(&mut out, payload.len(), kind, flags, id);
        out.extend_from_slice(payload);
        out
    }

    /// The frames parsed from bytes in parts of some size, with DATA lengths added up.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<String>, LinkError> {
        let mut reader = Reader::default();
        let mut found = Vec::new();
        let (mut body, mut flowed) = (0, 0);
        for piece in bytes.chunks(size) {
            reader.push(piece, &mut |frame| {
                if let Frame::Data { id, bytes, flow, end } = frame {
                    (body, flowed) = (body + bytes, flowed + flow);
                    if end {
                        found.push(format!("{body} of {flowed} on {id}"));
                    }
                } else {
                    found.push(format!("{frame:?}"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = [
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
            frame(HEADERS, END_HEADERS, 1, b"abc"),
            frame(DATA, 0, 1, b"12345"),
            frame(DATA, PADDED, 1, b"\x0212345"),
            frame(DATA, END_STREAM, 1, b""),
            frame(HEADERS, PADDED | PRIORITY | END_STREAM, 3, b"\x01pppppab0"),
            frame(CONTINUATION, 0, 3, b"c"),
            frame(CONTINUATION, END_HEADERS, 3, b"de"),
            frame(PING, ACK, 0, b"12345678"),
            frame(0x77, 0, 0, b"unknown"),
            frame(RST_STREAM, 0, 3, &[0, 0, 0, 7]),
            frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 1, 0]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0, b'x']),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let expect = [
                "Settings { ack: false, pairs: [0, 3, 0, 0, 0, 9] }",
                "Headers { id: 1, block: [97, 98, 99], end: false }",
                "8 of 11 on 1",
                "Headers { id: 3, block: [97, 98, 99, 100, 101], end: true }",
                "Ping { ack: true, text: [49, 50, 51, 52, 53, 54, 55, 56] }",
                "Reset { id: 3, code: 7 }",
                "Window { id: 0, more: 256 }",
                "GoAway { last: 3 }",
            ];
            assert_eq!(read(&bytes, size).unwrap(), expect, "in pieces of {size}");
        }
    }

    #[test]
    fn wrong_frames_are_errors() {
        for bytes in [
            [0xff; 9].to_vec(),
            frame(PUSH_PROMISE, 0, 1, b"abcd"),
            frame(PING, 0, 0, b"short"),
            frame(DATA, PADDED, 1, b"\x05abcd"),
            frame(RST_STREAM, 0, 1, b"a"),
            [frame(HEADERS, 0, 1, b"a"), frame(PING, 0, 0, b"12345678")].concat(),
            frame(CONTINUATION, 0, 1, b"a"),
        ] {
            for size in 1..=bytes.len() {
                assert!(read(&bytes, size).is_err(), "{bytes:?} in pieces of {size}");
            }
        }
    }
}
