//! The state of a connection, and its changes by frames. No I/O: input is passed to [`State::receive`], and output is
//! collected in `State::out`.

use std::collections::VecDeque;
use std::task::Waker;

use cardinal_http::hpack::{Decoder, Encoder};
use cardinal_http::{RequestHead, ResponseHead};

use super::budget::{Budget, Cost};
use super::error::{Code, H2Error};
use super::frame::{self, FrameHead, HEAD, PAYLOAD_MAX, PREFACE, WINDOW, flag, kind, setting};
use super::head::{HeadInfo, Reader, read_response, read_trailers};
use super::streams::{NOWHERE, Stream, Streams};

/// The limits that a connection sets for its peer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Receive window of a stream, bytes: limits what one slow receiver can make the node buffer. At least 65,535,
    /// which the peer may use before it has received a smaller value.
    pub stream_window: u32,
    /// Receive window of the connection, bytes.
    pub connection_window: u32,
    /// Maximum number of concurrent streams of a client.
    pub streams_max: u32,
    /// Maximum header list size, as computed by RFC 9113 section 6.5.2.
    pub header_list_max: u32,
}

/// The role of this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// A request from the client.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) slot: u32,
    pub(super) head: RequestHead,
    pub(super) info: HeadInfo,
}

/// A DATA frame whose payload is incomplete.
#[derive(Clone, Copy, Debug)]
struct DataRun {
    /// `None` if the stream no longer needs the data.
    slot: Option<u32>,
    left: usize,
    padding: usize,
    end: bool,
}

/// A header block whose CONTINUATION frames are incomplete.
#[derive(Clone, Copy, Debug)]
struct BlockRun {
    stream: u32,
    end: bool,
    /// Number of CONTINUATION frames received.
    count: u32,
}

/// Maximum number of CONTINUATION frames of one header block.
const CONTINUATIONS_MAX: u32 = 64;

/// Number of streams that may be opened before the peer's SETTINGS arrive.
const STREAMS_UNTIL_TOLD: u32 = 100;

/// Maximum number of unread interim responses.
const INTERIM_MAX: usize = 32;

/// Maximum number of heads kept for reuse.
const SPARE_HEADS: usize = 8;

/// Maximum size of a head kept for reuse, bytes.
const SPARE_BYTES: usize = 4096;

/// Payload of the PING that follows the first GOAWAY.
pub(super) const SHUTDOWN_PING: [u8; 8] = *b"shutdown";

/// The state of this side's shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// GOAWAY was sent; the peer may have opened further streams before it received it.
    Announced,
    /// The last stream id is fixed; later streams are ignored.
    Final,
}

/// One connection.
pub(super) struct State {
    pub(super) role: Role,
    settings: Settings,
    /// Output; the first `written` bytes have been sent.
    pub(super) out: Vec<u8>,
    pub(super) written: usize,
    /// Number of bytes sent before those in `out`.
    pub(super) base: u64,
    decoder: Decoder,
    pub(super) encoder: Encoder,
    reader: Reader,
    pub(super) streams: Streams,
    /// Initial send window of a new stream.
    pub(super) peer_window: i64,
    /// Maximum payload size that the peer accepts.
    pub(super) peer_payload_max: usize,
    /// Maximum number of streams that the peer allows.
    pub(super) peer_streams_max: u32,
    /// Send window of the connection.
    pub(super) send_window: i64,
    /// Receive window of the connection.
    receive_window: i64,
    /// Number of consumed bytes that have not been returned to the peer's window.
    unannounced: u32,
    /// The id of the last stream opened by the peer.
    pub(super) last_id: u32,
    /// The id of the next stream to open.
    pub(super) next_id: u32,
    preface_left: usize,
    pub(super) settings_seen: bool,
    data: Option<DataRun>,
    block_run: Option<BlockRun>,
    block: Vec<u8>,
    pub(super) accepted: VecDeque<Accepted>,
    spare: Vec<RequestHead>,
    /// Streams that wait to send, in order.
    pub(super) waiting: VecDeque<u32>,
    pub(super) budget: Budget,
    pub(super) leaving: Leaving,
    /// The last stream id sent in a GOAWAY.
    pub(super) announced_last: u32,
    /// The peer opens no further streams, or sent GOAWAY.
    pub(super) peer_leaves: bool,
    pub(super) dead: Option<H2Error>,
    /// The waker of the driving task; `None` once woken.
    pub(super) driver: Option<Waker>,
    /// Tasks that wait to open a stream.
    pub(super) openers: Vec<Waker>,
}

impl State {
    pub(super) fn new(role: Role, settings: Settings, mut out: Vec<u8>) -> Self {
        let settings = Settings {
            stream_window: settings.stream_window.max(WINDOW),
            connection_window: settings.connection_window.max(WINDOW),
            ..settings
        };
        let mut ours = vec![
            (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, settings.header_list_max),
        ];
        if role == Role::Client {
            out.extend_from_slice(PREFACE);
            ours.push((setting::ENABLE_PUSH, 0));
        } else {
            ours.push((setting::MAX_CONCURRENT_STREAMS, settings.streams_max));
        }
        frame::settings(&mut out, &ours);
        if settings.connection_window > WINDOW {
            frame::window_update(&mut out, 0, settings.connection_window - WINDOW);
        }
        Self {
            role,
            settings,
            out,
            written: 0,
            base: 0,
            decoder: Decoder::new(4096),
            encoder: Encoder::new(),
            reader: Reader::default(),
            streams: Streams::default(),
            peer_window: i64::from(WINDOW),
            peer_payload_max: PAYLOAD_MAX,
            peer_streams_max: STREAMS_UNTIL_TOLD,
            send_window: i64::from(WINDOW),
            receive_window: i64::from(settings.connection_window),
            unannounced: 0,
            last_id: 0,
            next_id: 1,
            preface_left: if role == Role::Server { PREFACE.len() } else { 0 },
            settings_seen: false,
            data: None,
            block_run: None,
            block: Vec::new(),
            accepted: VecDeque::new(),
            spare: Vec::new(),
            waiting: VecDeque::new(),
            budget: Budget::default(),
            leaving: Leaving::No,
            announced_last: u32::MAX,
            peer_leaves: false,
            dead: None,
            driver: None,
            openers: Vec::new(),
        }
    }

    pub(super) fn stream_window(&self) -> i64 {
        i64::from(self.settings.stream_window)
    }

    /// The peer's current window plus the bytes not yet returned to it: equals the full window while nothing is
    /// buffered.
    #[cfg(test)]
    pub(super) fn window_balance(&self) -> i64 {
        self.receive_window + i64::from(self.unannounced)
    }

    /// Whether the peer's connection preface has been received.
    pub(super) fn is_introduced(&self) -> bool {
        self.settings_seen
    }

    /// Processes input; returns how much of it was consumed: the rest is an incomplete frame. `now_ms` may have any
    /// origin. After an error, the connection has ended.
    pub(super) fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Result<usize, H2Error> {
        let mut rest = bytes;
        self.budget.refill(now_ms);
        loop {
            let used = self.receive_part(rest).inspect_err(|error| self.fail(*error))?;
            if used == 0 {
                return Ok(bytes.len() - rest.len());
            }
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Processes one frame, or a part of a frame that can be processed in parts.
    fn receive_part(&mut self, bytes: &[u8]) -> Result<usize, H2Error> {
        if self.preface_left > 0 {
            return self.receive_preface(bytes);
        }
        if let Some(run) = self.data {
            return self.receive_data(run, bytes);
        }
        let Some(head) = FrameHead::parse(bytes) else { return Ok(0) };
        if head.length > PAYLOAD_MAX {
            return Err(broken(Code::FRAME_SIZE_ERROR, "a frame over its limit"));
        }
        if !self.settings_seen && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(protocol("the first frame is not SETTINGS"));
        }
        if self.block_run.is_some_and(|run| head.kind != kind::CONTINUATION || head.stream != run.stream) {
            return Err(protocol("a frame within a header block"));
        }
        if head.kind == kind::DATA {
            return self.start_data(head, bytes.get(HEAD..).unwrap_or_default());
        }
        let Some(payload) = bytes.get(HEAD..HEAD + head.length) else { return Ok(0) };
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload)?,
            kind::CONTINUATION => self.on_continuation(head, payload)?,
            kind::PRIORITY => self.on_priority(head, payload)?,
            kind::RST_STREAM => self.on_reset(head, payload)?,
            kind::SETTINGS => self.on_settings(head, payload)?,
            kind::PUSH_PROMISE => return Err(protocol("PUSH_PROMISE")),
            kind::PING => self.on_ping(head, payload)?,
            kind::GOAWAY => self.on_goaway(head, payload)?,
            kind::WINDOW_UPDATE => self.on_window_update(head, payload)?,
            // RFC 9113 section 5.5: unknown types are ignored.
            _ => self.budget.spend(Cost::Frame)?,
        }
        Ok(HEAD + head.length)
    }

    fn receive_preface(&mut self, bytes: &[u8]) -> Result<usize, H2Error> {
        let want = PREFACE.get(PREFACE.len() - self.preface_left..).unwrap_or_default();
        let count = want.len().min(bytes.len());
        if bytes.get(..count) != want.get(..count) {
            return Err(protocol("not the preface of HTTP/2"));
        }
        self.preface_left -= count;
        Ok(count)
    }

    fn start_data(&mut self, head: FrameHead, after: &[u8]) -> Result<usize, H2Error> {
        if head.stream == 0 {
            return Err(protocol("DATA on no stream"));
        }
        let (padding, prefix) = match (head.has(flag::PADDED), after.first()) {
            (false, _) => (0, 0),
            (true, None) if head.length > 0 => return Ok(0),
            (true, Some(padding)) if usize::from(*padding) < head.length => (usize::from(*padding), 1),
            _ => return Err(protocol("padding is longer than its frame")),
        };
        let whole = i64::try_from(head.length).unwrap_or(i64::MAX);
        self.receive_window -= whole;
        if self.receive_window < 0 {
            return Err(broken(Code::FLOW_CONTROL_ERROR, "more than the connection's window"));
        }
        let end = head.has(flag::END_STREAM);
        if head.length - prefix == padding && !end {
            self.budget.spend(Cost::Frame)?;
        }
        let slot = self.data_stream(head.stream, whole)?;
        let left = head.length - prefix - padding;
        // Padding is consumed immediately.
        self.used_up(slot, prefix + padding);
        if slot.is_none() {
            self.used_up(None, left);
        }
        if left > 0 || padding > 0 {
            self.data = Some(DataRun { slot, left, padding, end });
        } else if let Some(slot) = slot {
            self.deliver(slot, &[], end)?;
        }
        Ok(HEAD + prefix)
    }

    /// The stream of a DATA frame with this length; `None` if the data is no longer needed.
    fn data_stream(&mut self, id: u32, whole: i64) -> Result<Option<u32>, H2Error> {
        let Some(slot) = self.streams.find(id) else {
            return self.on_closed(id).map(|()| None);
        };
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        stream.receive_window -= whole;
        let wrong = if stream.receive_done {
            Some((Code::STREAM_CLOSED, "DATA after the end"))
        } else if stream.receive_window < 0 {
            Some((Code::FLOW_CONTROL_ERROR, "more than the stream's window"))
        } else if self.role == Role::Client && !stream.answered {
            Some((Code::PROTOCOL_ERROR, "DATA before the head"))
        } else {
            None
        };
        match wrong {
            None => Ok(Some(slot)),
            Some((code, why)) => self.stream_error(slot, code, why).map(|()| None),
        }
    }

    fn receive_data(&mut self, mut run: DataRun, bytes: &[u8]) -> Result<usize, H2Error> {
        let count = run.left.min(bytes.len());
        run.left -= count;
        let part = bytes.get(..count).unwrap_or_default();
        let padding = run.padding.min(bytes.len() - count);
        run.padding -= padding;
        let over = run.left == 0 && run.padding == 0;
        self.data = (!over).then_some(run);
        if let Some(slot) = run.slot {
            self.deliver(slot, part, over && run.end)?;
        }
        Ok(count + padding)
    }

    /// Stores body bytes of a stream, and its end.
    fn deliver(&mut self, slot: u32, part: &[u8], end: bool) -> Result<(), H2Error> {
        let window = self.settings.stream_window as usize;
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(()) };
        let count = part.len() as u64;
        let over = stream.length_left.is_some_and(|left| left < count);
        // The window limits the buffered data, so all of it fits.
        if over || stream.body.extend(part, window) < part.len() {
            self.used_up(None, part.len());
            return self.stream_error(slot, Code::PROTOCOL_ERROR, "more than its content-length");
        }
        stream.length_left = stream.length_left.map(|left| left - count);
        if end {
            return self.end_of_body(slot);
        }
        stream.wake();
        Ok(())
    }

    fn end_of_body(&mut self, slot: u32) -> Result<(), H2Error> {
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(()) };
        if stream.length_left.is_some_and(|left| left > 0) {
            return self.stream_error(slot, Code::PROTOCOL_ERROR, "less than its content-length");
        }
        stream.receive_done = true;
        stream.wake();
        self.settle(slot);
        Ok(())
    }

    /// Releases consumed bytes to the window; the WINDOW_UPDATE is sent once enough bytes have accumulated.
    pub(super) fn used_up(&mut self, slot: Option<u32>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.unannounced += count;
        if self.unannounced >= self.settings.connection_window / 2 {
            frame::window_update(&mut self.out, 0, self.unannounced);
            self.receive_window += i64::from(std::mem::take(&mut self.unannounced));
            self.wake_driver();
        }
        let Some(stream) = slot.and_then(|slot| self.streams.get_mut(slot)) else { return };
        stream.unannounced += count;
        if stream.unannounced >= self.settings.stream_window / 2 && !stream.receive_done && stream.error.is_none() {
            frame::window_update(&mut self.out, stream.id, stream.unannounced);
            stream.receive_window += i64::from(std::mem::take(&mut stream.unannounced));
            self.wake_driver();
        }
    }

    /// Resets a stream because of a peer error.
    pub(super) fn stream_error(&mut self, slot: u32, code: Code, why: &'static str) -> Result<(), H2Error> {
        self.end_early(slot, H2Error::Stream(code, why));
        self.budget.spend(Cost::Stream)
    }

    /// Ends a stream early; sends a reset unless the peer reset it.
    pub(super) fn end_early(&mut self, slot: u32, error: H2Error) {
        let code = match error {
            H2Error::Stream(code, _) => Some(code),
            _ => None,
        };
        let Some(stream) = self.streams.get_mut(slot).filter(|stream| !stream.is_over()) else { return };
        stream.error = Some(error);
        stream.wake();
        if let Some(code) = code {
            frame::reset(&mut self.out, stream.id, code.0);
            let id = stream.id;
            self.streams.remember_reset(id);
            self.wake_driver();
        }
        self.settle(slot);
    }

    /// Removes a finished stream; see [`Streams::settle`].
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(stream) = self.streams.get_mut(slot).filter(|stream| stream.is_over()) else { return };
        if stream.error.is_none() {
            self.budget.served();
        } else if let Some(run) = self.data.as_mut().filter(|run| run.slot == Some(slot)) {
            run.slot = None;
            let left = run.left;
            self.used_up(None, left);
        }
        if let Some(stream) = self.streams.get_mut(slot)
            && std::mem::take(&mut stream.queued)
        {
            self.waiting.retain(|waiting| *waiting != slot);
        }
        self.streams.settle(slot);
        for opener in self.openers.drain(..) {
            opener.wake();
        }
    }

    /// Handles a frame for a stream that is not open.
    fn on_closed(&mut self, id: u32) -> Result<(), H2Error> {
        self.check_not_idle(id)?;
        if self.streams.was_reset(id) {
            // The peer sent the frame before it received the reset.
            return Ok(());
        }
        frame::reset(&mut self.out, id, Code::STREAM_CLOSED.0);
        self.streams.remember_reset(id);
        self.budget.spend(Cost::Stream)
    }

    /// RFC 9113 section 5.1: no frame is allowed on a stream that was never opened.
    pub(super) fn check_not_idle(&self, id: u32) -> Result<(), H2Error> {
        let idle = match self.role {
            Role::Server => id > self.last_id || id.is_multiple_of(2),
            Role::Client => id >= self.next_id || id.is_multiple_of(2),
        };
        if idle { Err(protocol("a frame on a stream that was never opened")) } else { Ok(()) }
    }

    fn on_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        if head.stream == 0 {
            return Err(protocol("HEADERS on no stream"));
        }
        let fragment = fragment(head, payload)?;
        let end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, end, fragment);
        }
        self.block.clear();
        self.block.extend_from_slice(fragment);
        self.block_run = Some(BlockRun { stream: head.stream, end, count: 0 });
        Ok(())
    }

    fn on_continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), H2Error> {
        let Some(run) = &mut self.block_run else { return Err(protocol("CONTINUATION of nothing")) };
        run.count += 1;
        let block_max = self.settings.header_list_max as usize + PAYLOAD_MAX;
        if run.count > CONTINUATIONS_MAX || self.block.len() + payload.len() > block_max {
            return Err(broken(Code::ENHANCE_YOUR_CALM, "a header block over its limit"));
        }
        self.block.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        let run = *run;
        self.block_run = None;
        let block = std::mem::take(&mut self.block);
        self.on_block(run.stream, run.end, &block)
    }

    /// Handles a complete header block.
    fn on_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), H2Error> {
        if let Some(slot) = self.streams.find(id) {
            let answered = self.streams.get(slot).is_some_and(|stream| stream.answered);
            if self.role == Role::Client && !answered {
                return self.on_response(slot, end, block);
            }
            return self.on_trailers(slot, end, block);
        }
        if self.role == Role::Server && id > self.last_id && id % 2 == 1 {
            return self.on_request(id, end, block);
        }
        self.check_not_idle(id)?;
        self.decoder.decode(block, |_| {}).map_err(compression)?;
        if self.role == Role::Client || self.streams.was_reset(id) {
            return Ok(());
        }
        Err(broken(Code::STREAM_CLOSED, "HEADERS on a stream that was ended"))
    }

    fn on_request(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), H2Error> {
        self.last_id = id;
        let mut head = self.spare.pop().unwrap_or_default();
        let list_max = self.settings.header_list_max as usize;
        let read = self.reader.request(&mut self.decoder, block, list_max, &mut head).map_err(compression)?;
        if self.leaving == Leaving::Final {
            self.streams.remember_reset(id);
            self.give_head(head);
            return Ok(());
        }
        let max = self.settings.streams_max as usize;
        // Streams that the peer has reset count until their tasks have ended: otherwise resetting them would bypass the
        // limit.
        let full = self.streams.open_count() >= max || self.streams.used_count() >= max.saturating_mul(2);
        let info = match read {
            Ok(info) if end && info.length.is_some_and(|length| length > 0) && !info.oversized => Err(()),
            Ok(_) if full => {
                self.give_head(head);
                return self.refuse(id, Code::REFUSED_STREAM);
            }
            Ok(info) => Ok(info),
            Err(_) => Err(()),
        };
        let Ok(info) = info else {
            self.give_head(head);
            return self.refuse(id, Code::PROTOCOL_ERROR);
        };
        let slot = self.streams.open(Stream {
            id,
            held: true,
            receive_window: i64::from(self.settings.stream_window),
            length_left: info.length,
            receive_done: end,
            send_window: self.peer_window,
            last_data: NOWHERE,
            ..Stream::default()
        });
        self.accepted.push_back(Accepted { slot, head, info });
        Ok(())
    }

    fn refuse(&mut self, id: u32, code: Code) -> Result<(), H2Error> {
        frame::reset(&mut self.out, id, code.0);
        self.streams.remember_reset(id);
        self.budget.spend(Cost::Stream)
    }

    /// Returns a head for reuse.
    pub(super) fn give_head(&mut self, head: RequestHead) {
        if self.spare.len() < SPARE_HEADS && head.headers.capacity() <= SPARE_BYTES {
            self.spare.push(head);
        }
    }

    fn on_response(&mut self, slot: u32, end: bool, block: &[u8]) -> Result<(), H2Error> {
        let mut head = ResponseHead::default();
        let list_max = self.settings.header_list_max as usize;
        let read = read_response(&mut self.decoder, block, list_max, &mut head).map_err(compression)?;
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(()) };
        let info = match read {
            Ok(info) if info.oversized => Err("a response head over its limit"),
            Ok(_) if head.status < 200 && (end || head.status == 101) => Err("an informational response that is not"),
            Ok(_) if stream.heads.len() >= INTERIM_MAX => Err("too many informational responses"),
            Ok(info) => Ok(info),
            Err(why) => Err(why),
        };
        let info = match info {
            Ok(info) => info,
            Err(why) => return self.stream_error(slot, Code::PROTOCOL_ERROR, why),
        };
        let status = head.status;
        stream.heads.push_back(head);
        if status < 200 {
            stream.wake();
            return Ok(());
        }
        stream.answered = true;
        stream.length_left = if stream.bodyless || matches!(status, 204 | 304) { Some(0) } else { info.length };
        if end {
            return self.end_of_body(slot);
        }
        stream.wake();
        Ok(())
    }

    fn on_trailers(&mut self, slot: u32, end: bool, block: &[u8]) -> Result<(), H2Error> {
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(()) };
        let done = stream.receive_done;
        let mut trailers = std::mem::take(&mut stream.trailers);
        let list_max = self.settings.header_list_max as usize;
        let read = read_trailers(&mut self.decoder, block, list_max, &mut trailers).map_err(compression)?;
        if done {
            return self.stream_error(slot, Code::STREAM_CLOSED, "HEADERS after the end");
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.trailers = trailers;
        }
        match read {
            Ok(()) if end => self.end_of_body(slot),
            Ok(()) => self.stream_error(slot, Code::PROTOCOL_ERROR, "trailers that do not end the stream"),
            Err(why) => self.stream_error(slot, Code::PROTOCOL_ERROR, why),
        }
    }

    /// Starts a graceful shutdown: open streams are served to their end, as are those that the peer opens before it has
    /// received the GOAWAY (RFC 9113 section 6.8).
    pub(super) fn start_graceful_shutdown(&mut self) {
        if self.leaving != Leaving::No || self.dead.is_some() {
            return;
        }
        self.leaving = Leaving::Announced;
        frame::goaway(&mut self.out, 0x7fff_ffff, Code::NO_ERROR.0, "");
        frame::ping(&mut self.out, 0, SHUTDOWN_PING);
        self.wake_driver();
    }

    /// Ends the connection immediately. For an error of the peer, sends GOAWAY with the code.
    pub(super) fn fail(&mut self, error: H2Error) {
        if self.dead.is_some() {
            return;
        }
        self.dead = Some(error);
        if let H2Error::Connection(code, why) = error {
            frame::goaway(&mut self.out, self.last_id.min(self.announced_last), code.0, why);
        }
        for accepted in std::mem::take(&mut self.accepted) {
            if let Some(stream) = self.streams.get_mut(accepted.slot) {
                stream.held = false;
            }
        }
        let open: Vec<u32> = self.streams.open_slots().map(|(_, slot)| slot).collect();
        for slot in open {
            // No RST_STREAM is needed: GOAWAY and closing the connection end all streams.
            if let Some(stream) = self.streams.get_mut(slot) {
                stream.error = Some(error);
                stream.wake();
            }
            self.settle(slot);
        }
        for opener in self.openers.drain(..) {
            opener.wake();
        }
        self.wake_driver();
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

/// The header block fragment of a HEADERS frame: without padding and priority.
fn fragment(head: FrameHead, payload: &[u8]) -> Result<&[u8], H2Error> {
    let mut rest = payload;
    if head.has(flag::PADDED) {
        let Some((padding, after)) = rest.split_first() else {
            return Err(protocol("no padding where it is announced"));
        };
        let Some(kept) = after.len().checked_sub(usize::from(*padding)) else {
            return Err(protocol("padding is longer than its frame"));
        };
        rest = after.get(..kept).unwrap_or_default();
    }
    if head.has(flag::PRIORITY) {
        let Some((priority, after)) = rest.split_first_chunk::<5>() else {
            return Err(broken(Code::FRAME_SIZE_ERROR, "HEADERS"));
        };
        let [a, b, c, d, _] = *priority;
        if u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == head.stream {
            return Err(protocol("a stream that depends on itself"));
        }
        rest = after;
    }
    Ok(rest)
}

pub(super) fn broken(code: Code, why: &'static str) -> H2Error {
    H2Error::Connection(code, why)
}

pub(super) fn protocol(why: &'static str) -> H2Error {
    broken(Code::PROTOCOL_ERROR, why)
}

fn compression(_: cardinal_http::hpack::HpackError) -> H2Error {
    broken(Code::COMPRESSION_ERROR, "a header block that cannot be decoded")
}
