//! The common part of both sides of a connection: settings, pings, windows, and bodies under flow control.

use std::collections::VecDeque;

use super::frame::{self, Frame};
use crate::load::link::{Link, LinkError};

/// Window size granted to the peer; large enough that it never waits.
pub(in crate::load) const WINDOW: u32 = 1 << 30;
/// Initial window size, and maximum frame payload.
const FIRST_WINDOW: i64 = 65_535;
const PAYLOAD: usize = 16 * 1024;
/// Limit on unsent output above which no more body data is framed.
const OUT_MAX: usize = 128 * 1024;

const SETTING_TABLE: u16 = 1;
const SETTING_PUSH: u16 = 2;
const SETTING_STREAMS: u16 = 3;
const SETTING_WINDOW: u16 = 4;
const SETTING_PAYLOAD: u16 = 5;

#[derive(Debug)]
pub(in crate::load) struct Wire {
    /// Frames to send, and the number of bytes already sent.
    pub(in crate::load) out: Vec<u8>,
    sent: usize,
    /// Send windows of the connection and of a new stream.
    window: i64,
    stream_window: i64,
    payload: usize,
    /// Maximum number of concurrent streams.
    pub(in crate::load) streams_max: u32,
    /// The peer has a header table of the default size.
    pub(in crate::load) table: bool,
    /// Number of received bytes not yet returned to the peer's window.
    taken: u32,
    bodies: VecDeque<Body>,
    /// Bodies that wait for their stream windows.
    waiting: Vec<Body>,
}

/// A body being sent.
#[derive(Debug)]
struct Body {
    id: u32,
    /// Number of bytes already framed.
    at: usize,
    window: i64,
}

impl Wire {
    /// A connection that begins with these settings, followed by a window update.
    pub(in crate::load) fn new(preface: &[u8], settings: &[(u16, u32)]) -> Self {
        let mut out = preface.to_vec();
        frame::head(&mut out, settings.len() * 6, frame::SETTINGS, 0, 0);
        for (number, value) in settings {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        let mut wire = Self {
            out,
            sent: 0,
            window: FIRST_WINDOW,
            stream_window: FIRST_WINDOW,
            payload: PAYLOAD,
            streams_max: u32::MAX,
            table: true,
            taken: 0,
            bodies: VecDeque::new(),
            waiting: Vec::new(),
        };
        wire.window_update(WINDOW - FIRST_WINDOW as u32);
        wire
    }

    /// The settings of a client.
    pub(in crate::load) fn client(table: bool) -> Self {
        let settings = [(SETTING_PUSH, 0), (SETTING_WINDOW, WINDOW), (SETTING_TABLE, 0)];
        let settings = settings.get(..if table { 2 } else { 3 }).unwrap_or_default();
        Self::new(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings)
    }

    /// The settings of a server.
    pub(in crate::load) fn server() -> Self {
        Self::new(b"", &[(SETTING_STREAMS, 4096), (SETTING_WINDOW, WINDOW)])
    }

    /// Processes a connection-level frame, or a window update of a body being sent.
    pub(in crate::load) fn take(&mut self, frame: Frame<'_>) -> Result<(), LinkError> {
        match frame {
            Frame::Settings { ack: false, pairs } => self.settings(pairs)?,
            Frame::Ping { ack: false, text } => {
                frame::head(&mut self.out, text.len(), frame::PING, frame::ACK, 0);
                self.out.extend_from_slice(&text);
            }
            Frame::Window { id: 0, more } => self.window += i64::from(more),
            Frame::Window { id, more } => self.widen(id, more),
            Frame::Data { flow, .. } => {
                self.taken += flow;
                if self.taken >= WINDOW / 2 {
                    let taken = std::mem::take(&mut self.taken);
                    self.window_update(taken);
                }
            }
            Frame::Reset { id, .. } => {
                self.bodies.retain(|body| body.id != id);
                self.waiting.retain(|body| body.id != id);
            }
            Frame::Headers { .. } | Frame::GoAway { .. } | Frame::Settings { .. } | Frame::Ping { .. } => {}
        }
        Ok(())
    }

    fn settings(&mut self, pairs: &[u8]) -> Result<(), LinkError> {
        for pair in pairs.chunks(6) {
            let (number, value) = pair.split_first_chunk::<2>().ok_or("settings are cut off")?;
            let value = frame::number(value, 0)?;
            match u16::from_be_bytes(*number) {
                SETTING_TABLE => self.table = value >= 4096,
                SETTING_STREAMS => self.streams_max = value,
                SETTING_WINDOW => {
                    let change = i64::from(value) - self.stream_window;
                    self.stream_window = i64::from(value);
                    self.bodies.extend(self.waiting.drain(..));
                    for body in &mut self.bodies {
                        body.window += change;
                    }
                }
                SETTING_PAYLOAD => self.payload = (value as usize).clamp(PAYLOAD, OUT_MAX / 2),
                _ => {}
            }
        }
        frame::head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(())
    }

    fn window_update(&mut self, more: u32) {
        frame::head(&mut self.out, 4, frame::WINDOW_UPDATE, 0, 0);
        self.out.extend_from_slice(&more.to_be_bytes());
    }

    fn widen(&mut self, id: u32, more: u32) {
        if let Some(at) = self.waiting.iter().position(|body| body.id == id) {
            let body = self.waiting.swap_remove(at);
            self.bodies.push_back(body);
        }
        if let Some(body) = self.bodies.iter_mut().find(|body| body.id == id) {
            body.window += i64::from(more);
        }
    }

    /// Starts a body, which [`Wire::pump`] frames. `more`: window updates received before.
    pub(in crate::load) fn begin(&mut self, id: u32, more: u32) {
        self.bodies.push_back(Body { id, at: 0, window: self.stream_window + i64::from(more) });
    }

    /// Whether the body of this stream is still being sent.
    pub(in crate::load) fn sends(&self, id: u32) -> bool {
        self.bodies.iter().chain(&self.waiting).any(|body| body.id == id)
    }

    /// Frames body data, alternating between bodies. All bodies are `content`, followed by a header block if `trailers`
    /// is not empty. Returns the number of framed body bytes.
    pub(in crate::load) fn pump(&mut self, content: &[u8], trailers: &[u8]) -> u64 {
        let mut bytes = 0;
        while self.out.len() - self.sent < OUT_MAX {
            let Some(mut body) = self.bodies.pop_front() else { break };
            let left = content.len() - body.at;
            let n = left.min(self.payload).min(self.window.max(0) as usize).min(body.window.max(0) as usize);
            if n == 0 && left > 0 {
                if body.window > 0 {
                    // The connection window is used up, so no body can be sent.
                    self.bodies.push_front(body);
                    break;
                }
                self.waiting.push(body);
                continue;
            }
            let last = n == left;
            let flags = if last && trailers.is_empty() { frame::END_STREAM } else { 0 };
            frame::head(&mut self.out, n, frame::DATA, flags, body.id);
            self.out.extend_from_slice(content.get(body.at..body.at + n).unwrap_or_default());
            bytes += n as u64;
            self.window -= n as i64;
            body.window -= n as i64;
            body.at += n;
            if !last {
                self.bodies.push_back(body);
            } else if !trailers.is_empty() {
                self.headers(body.id, &[trailers], true);
            }
        }
        bytes
    }

    /// Writes a header block, which must fit into one frame.
    pub(in crate::load) fn headers(&mut self, id: u32, block: &[&[u8]], end: bool) {
        let length = block.iter().map(|part| part.len()).sum();
        let flags = frame::END_HEADERS | if end { frame::END_STREAM } else { 0 };
        frame::head(&mut self.out, length, frame::HEADERS, flags, id);
        for part in block {
            self.out.extend_from_slice(part);
        }
    }

    /// Flushes the output.
    pub(in crate::load) fn flush(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let unsent = self.out.get(self.sent..).unwrap_or_default();
        if unsent.is_empty() {
            return link.flush();
        }
        self.sent += link.put(unsent)?;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent >= OUT_MAX {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Whether unsent data can be sent.
    pub(in crate::load) fn is_sending(&self) -> bool {
        self.sent < self.out.len() || (self.window > 0 && !self.bodies.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Reader;
    use super::*;

    /// The frames in the output: DATA as stream and length, with a `!` at its end, others as their name.
    fn sent(wire: &mut Wire) -> Vec<String> {
        let mut found = Vec::new();
        let out = std::mem::take(&mut wire.out);
        let take = &mut |frame: Frame<'_>| {
            found.push(match frame {
                Frame::Data { id, bytes, end, .. } => format!("{id}:{bytes}{}", if end { "!" } else { "" }),
                Frame::Headers { id, end, .. } => format!("{id}:fields{}", if end { "!" } else { "" }),
                other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
            });
            Ok(())
        };
        Reader::default().push(&out, take).unwrap();
        found
    }

    fn wire() -> Wire {
        let mut wire = Wire::server();
        assert_eq!(sent(&mut wire), ["Settings", "Window"]);
        wire
    }

    #[test]
    fn bodies_keep_to_windows_and_take_turns() {
        let content = vec![0; 40_000];
        let mut wire = wire();
        wire.begin(1, 0);
        wire.begin(3, 0);
        assert_eq!(wire.pump(&content, b"x"), 65_535);
        assert_eq!(sent(&mut wire), ["1:16384", "3:16384", "1:16384", "3:16383"]);
        assert!(!wire.is_sending() && wire.sends(1) && wire.sends(3));
        wire.take(Frame::Window { id: 0, more: 10_000 }).unwrap();
        assert!(wire.is_sending());
        assert_eq!(wire.pump(&content, b"x"), 10_000);
        assert_eq!(sent(&mut wire), ["1:7232", "1:fields!", "3:2768"]);
        wire.take(Frame::Reset { id: 3, code: 0 }).unwrap();
        assert!(!wire.sends(1) && !wire.sends(3));
    }

    #[test]
    fn streams_wait_for_their_own_windows() {
        let content = vec![0; 100];
        let mut wire = wire();
        wire.take(Frame::Settings { ack: false, pairs: &[0, 4, 0, 0, 0, 10, 0, 3, 0, 0, 0, 7] }).unwrap();
        assert_eq!((sent(&mut wire), wire.streams_max), (vec!["Settings".to_owned()], 7));
        wire.begin(1, 0);
        wire.begin(3, 20);
        assert_eq!(wire.pump(&content, b""), 40);
        assert_eq!(sent(&mut wire), ["1:10", "3:30"]);
        wire.take(Frame::Window { id: 3, more: 5 }).unwrap();
        wire.pump(&content, b"");
        assert_eq!(sent(&mut wire), ["3:5"]);
        wire.take(Frame::Settings { ack: false, pairs: &[0, 4, 0, 0, 0, 200] }).unwrap();
        wire.pump(&content, b"");
        assert_eq!(sent(&mut wire), ["Settings", "1:90!", "3:65!"]);
    }

    #[test]
    fn pings_are_answered_and_windows_given_back_rarely() {
        let mut wire = wire();
        wire.take(Frame::Ping { ack: false, text: *b"12345678" }).unwrap();
        wire.take(Frame::Ping { ack: true, text: *b"12345678" }).unwrap();
        assert_eq!(sent(&mut wire), ["Ping"]);
        let data = |flow| Frame::Data { id: 1, bytes: flow, flow, end: false };
        wire.take(data(WINDOW / 2 - 1)).unwrap();
        assert!(wire.out.is_empty());
        wire.take(data(1)).unwrap();
        assert_eq!(sent(&mut wire), ["Window"]);
        assert!(wire.take(Frame::Settings { ack: false, pairs: &[0, 4, 0] }).is_err());
    }
}
