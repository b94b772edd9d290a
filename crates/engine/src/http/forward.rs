//! Forwards bodies in both directions of an exchange within one task, with backpressure from the slower side.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use cardinal_http::{Failure, FailureKind, HeaderList, Name, belongs_in_head};
use cardinal_ir::{Limits, Timeouts};
use cardinal_net::{NetError, Peer, Splice, SpliceError, Timer, Wheel};

use super::halt::Halt;
use super::request_body::BodyFilters;
use crate::exchange::{Copies, FilteredBody, Replay, Throttle};
use crate::policy::timeouts::{Expiry, Watch};

/// The state of a direction after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything has been forwarded.
    Done,
    /// Waiting for the client.
    Client,
    /// Waiting for the upstream.
    Upstream,
    /// Waiting for the rate limit to allow more.
    Throttled,
}

/// Why a transfer failed.
#[derive(Debug)]
pub(super) enum TransferError {
    /// The client's connection failed.
    Client(NetError),
    /// The upstream's connection failed.
    Upstream(NetError),
    /// The request body is longer than allowed.
    TooLarge,
    /// A filter stopped the request body.
    Filter(Halt),
}

impl TransferError {
    /// Converts into a failure without retry.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Client(error) if error.is_disconnect() => {
                Failure::new(FailureKind::ClientClosed, "while moving a body").with_source(error)
            }
            Self::Client(error) => Failure::new(FailureKind::BadRequest, "request body").with_source(error),
            Self::Upstream(error) if error.is_local() => {
                Failure::new(FailureKind::Overloaded, "while moving a body").with_source(error)
            }
            Self::Upstream(error) if error.is_disconnect() => {
                Failure::new(FailureKind::UpstreamReset, "while moving a body").with_source(error)
            }
            Self::Upstream(error) => Failure::new(FailureKind::UpstreamProtocol, "response body").with_source(error),
            Self::TooLarge => Failure::new(FailureKind::BodyTooLarge, "request body over its limit"),
            Self::Filter(halt) => halt.into_failure(),
        }
    }

    /// Converts into a [`Halt`], for places where a filter may reply.
    pub(super) fn halt(self) -> Halt {
        match self {
            Self::Filter(halt) => halt,
            other => other.failure().into(),
        }
    }
}

/// Forwards the request body.
#[derive(Debug)]
pub(super) struct Upload {
    /// A buffered body; if `None`, the client's body is streamed.
    held: Option<Bytes>,
    /// Number of bytes that may still be forwarded.
    max: u64,
    /// Names of the trailer fields to forward. Usually there are none, so the list is boxed twice to keep the struct
    /// small.
    trailers: Option<Box<Box<[Box<str>]>>>,
    /// The body is streamed from the client.
    streamed: bool,
    /// The part of a streamed body that has been forwarded in this attempt and in earlier ones.
    replay: Option<Box<Replay>>,
    /// Number of bytes forwarded.
    pub(super) moved: u64,
    /// The whole body is written, but perhaps not flushed.
    finished: bool,
    done: bool,
    splice: Splice,
    /// Copies of the request for mirrors; these receive the chunks streamed from the client.
    pub(super) copies: Option<Box<dyn Copies>>,
    /// Set if filters process the chunks of a streamed body.
    pub(super) filtered: Option<Box<FilteredBody>>,
}

impl Upload {
    /// `trailers`: names of the trailer fields to forward if the body is streamed. `replay`: the part of the body that
    /// has been read, if it is kept for retries.
    pub(super) fn new(
        held: Option<Bytes>,
        max: Option<u64>,
        trailers: Box<[Box<str>]>,
        replay: Option<Box<Replay>>,
    ) -> Self {
        Self {
            streamed: held.is_none(),
            held,
            replay,
            max: max.unwrap_or(u64::MAX),
            trailers: (!trailers.is_empty()).then(|| Box::new(trailers)),
            moved: 0,
            finished: false,
            done: false,
            splice: Splice::default(),
            copies: None,
            filtered: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Number of body bytes read from the client during the transfer; 0 for a body that was buffered before.
    pub(super) fn received(&self) -> u64 {
        match &self.filtered {
            Some(filtered) => filtered.received,
            None if self.streamed => self.moved,
            None => 0,
        }
    }

    /// A counter that grows with each byte read or sent.
    pub(super) fn activity(&self) -> u64 {
        self.moved + self.filtered.as_ref().map_or(0, |filtered| filtered.received)
    }

    /// Whether [`Upload::poll`] would not notice that the client disconnects, because it does not read from the client.
    /// An HTTP/1 client whose body is streamed is not checked: a check would have to read, and so to copy data that
    /// could be spliced.
    pub(super) fn misses_end_of(&self, client: &Peer) -> bool {
        !self.streamed || self.finished || matches!(client, Peer::H2(_))
    }

    /// Whether the whole body is written, though perhaps not flushed.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the whole body can be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        let has_begun =
            || self.moved > 0 || self.splice.is_used() || self.filtered.as_ref().is_some_and(|body| body.has_begun());
        !self.streamed || self.replay.is_some() || !has_begun()
    }

    /// Stops keeping the body, because there will be no further attempt.
    pub(super) fn stop_keeping(&mut self) {
        // Kept data that has not been sent yet stays until it is sent.
        if let Some(replay) = &mut self.replay {
            replay.max = replay.bytes.len();
        }
    }

    /// Takes the part of the body that was kept for a retry.
    pub(super) fn take_replay(&mut self) -> Option<Box<Replay>> {
        self.replay.take()
    }

    /// Forwards as much as possible, through `filters` if they process chunks.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
        filters: &mut BodyFilters<'_>,
    ) -> Result<Progress, TransferError> {
        if self.done {
            return Ok(Progress::Done);
        }
        while !self.finished {
            let more = match self.held.take() {
                Some(held) => self.poll_held(cx, up, held)?,
                None => self.poll_stream(cx, client, up, filters)?,
            };
            if let Some(stalled) = more {
                return Ok(stalled);
            }
        }
        match up.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.done = true;
                Ok(Progress::Done)
            }
            Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
            Poll::Pending => Ok(Progress::Upstream),
        }
    }

    fn poll_held(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Peer,
        mut held: Bytes,
    ) -> Result<Option<Progress>, TransferError> {
        if held.is_empty() {
            self.finished = true;
            return up.finish(None).map(|()| None).map_err(TransferError::Upstream);
        }
        let stalled = match up.poll_send(cx, &held) {
            Poll::Ready(Ok(count)) => {
                self.moved += count as u64;
                held.advance(count);
                None
            }
            Poll::Ready(Err(error)) => return Err(TransferError::Upstream(error)),
            Poll::Pending => Some(Progress::Upstream),
        };
        self.held = Some(held);
        Ok(stalled)
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
        filters: &mut BodyFilters<'_>,
    ) -> Result<Option<Progress>, TransferError> {
        if let Some(replay) = &self.replay {
            let from = usize::try_from(self.moved).unwrap_or(usize::MAX);
            if let Some(rest) = replay.bytes.get(from..).filter(|rest| !rest.is_empty()) {
                return match up.poll_send(cx, rest) {
                    Poll::Ready(Ok(count)) => {
                        self.moved += count as u64;
                        Ok(None)
                    }
                    Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
                    Poll::Pending => Ok(Some(Progress::Upstream)),
                };
            }
        }
        if let Some(mut filtered) = self.filtered.take() {
            let polled = self.poll_filtered(cx, (client, up), &mut filtered, filters);
            self.filtered = Some(filtered);
            return polled;
        }
        if self.replay.is_some() {
            return self.poll_client(cx, client, up);
        }
        // Spliced data is not visible to the process.
        let spliced = match self.copies {
            Some(_) => Poll::Ready(Ok(0)),
            None => self.splice.poll_body(cx, client, up, self.max.saturating_sub(self.moved)),
        };
        match spliced {
            Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(count)) => {
                self.moved += count;
                return Ok(None);
            }
            Poll::Ready(Err(SpliceError::Source(error))) => return Err(TransferError::Client(error)),
            Poll::Ready(Err(SpliceError::Sink(error))) => return Err(TransferError::Upstream(error)),
            Poll::Pending => return Ok(Some(Progress::Upstream)),
        }
        self.poll_client(cx, client, up)
    }

    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
    ) -> Result<Option<Progress>, TransferError> {
        match client.poll_body(cx) {
            Poll::Ready(Ok(true)) => {
                let data = client.data();
                if self.moved + data.len() as u64 > self.max {
                    return Err(TransferError::TooLarge);
                }
                match up.poll_send(cx, data) {
                    Poll::Ready(Ok(count)) => {
                        self.moved += count as u64;
                        let sent = data.get(..count).unwrap_or_default();
                        self.copies = self.copies.take().and_then(|copies| copies.with(sent));
                        if self.replay.as_mut().is_some_and(|replay| !replay.keep(sent)) {
                            self.replay = None;
                        }
                        client.consume(count);
                        Ok(None)
                    }
                    Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
                    Poll::Pending => Ok(Some(Progress::Upstream)),
                }
            }
            Poll::Ready(Ok(false)) => self.finish(client, up).map(|()| None),
            Poll::Ready(Err(error)) => Err(TransferError::Client(error)),
            Poll::Pending => flush_upstream(cx, up).map(Some),
        }
    }

    /// Reads a chunk from the client and runs the filters on it, or sends the filters' output.
    fn poll_filtered(
        &mut self,
        cx: &mut Context<'_>,
        (client, up): (&mut Peer, &mut Peer),
        filtered: &mut FilteredBody,
        filters: &mut BodyFilters<'_>,
    ) -> Result<Option<Progress>, TransferError> {
        if !filtered.pending.is_empty() {
            return match up.poll_send(cx, &filtered.pending) {
                Poll::Ready(Ok(count)) => {
                    self.moved += count as u64;
                    filtered.pending.advance(count);
                    Ok(None)
                }
                Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
                Poll::Pending => Ok(Some(Progress::Upstream)),
            };
        }
        if filtered.is_complete {
            return self.finish(client, up).map(|()| None);
        }
        let data = match client.poll_body(cx) {
            Poll::Ready(Ok(true)) => {
                let data = Bytes::copy_from_slice(client.data());
                if filtered.received + data.len() as u64 > self.max {
                    return Err(TransferError::TooLarge);
                }
                client.consume(data.len());
                filtered.received += data.len() as u64;
                data
            }
            Poll::Ready(Ok(false)) => {
                filtered.is_complete = true;
                Bytes::new()
            }
            Poll::Ready(Err(error)) => return Err(TransferError::Client(error)),
            Poll::Pending => return flush_upstream(cx, up).map(Some),
        };
        let made = filters.run(data, filtered.is_complete).map_err(TransferError::Filter)?;
        self.copies = self.copies.take().and_then(|copies| copies.with(&made));
        // If the output is kept for a retry, it is sent from there.
        if !self.replay.as_mut().is_some_and(|replay| replay.keep(&made)) {
            self.replay = None;
            filtered.pending = made;
        }
        Ok(None)
    }

    fn finish(&mut self, client: &Peer, up: &mut Peer) -> Result<(), TransferError> {
        let named = |name: &[u8]| {
            let names = self.trailers.iter().flat_map(|names| names.iter());
            names.into_iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
        };
        let trailers = passed_trailers(client.trailers(), named);
        up.finish(trailers.as_deref()).map_err(TransferError::Upstream)?;
        if let Some(copies) = self.copies.take() {
            copies.complete();
        }
        self.finished = true;
        Ok(())
    }
}

/// Flushes the data written so far to the upstream while waiting for more.
fn flush_upstream(cx: &mut Context<'_>, up: &mut Peer) -> Result<Progress, TransferError> {
    match up.poll_flush(cx) {
        Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
        Poll::Ready(Ok(())) => Ok(Progress::Client),
        Poll::Pending => Ok(Progress::Upstream),
    }
}

/// Output of filters for one chunk, on its way to the client.
#[derive(Debug, Default)]
struct Filtered {
    /// Data still to be sent.
    data: Bytes,
    /// This is the last chunk.
    last: bool,
}

/// Forwards the response body.
#[derive(Debug)]
pub(super) struct Download {
    /// Number of body bytes sent to the client.
    pub(super) moved: u64,
    /// Set if filters process the body.
    filtered: Option<Filtered>,
    finished: bool,
    passage: Passage,
}

/// The rate at which bytes are forwarded.
#[derive(Debug)]
enum Passage {
    /// As fast as both peers allow, inside the kernel if possible.
    Free(Splice),
    /// At a limited rate.
    Limited(Box<Throttle>),
}

impl Download {
    /// `filtered`: filters process the body.
    pub(super) fn new(filtered: bool) -> Self {
        let filtered = filtered.then(Filtered::default);
        Self { moved: 0, filtered, finished: false, passage: Passage::Free(Splice::default()) }
    }

    /// Limits the rate of the body to this number of bytes per second.
    pub(super) fn with_rate(self, bytes_per_second: NonZeroU64, wheel: &Rc<Wheel>) -> Self {
        Self { passage: Passage::Limited(Box::new(Throttle::new(bytes_per_second, wheel))), ..self }
    }

    /// Forwards as much as possible. If filters process the body, `filter` maps each chunk to the data to send; it is
    /// called with the last chunk too, which may be empty.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
        filter: &mut dyn FnMut(Bytes, bool) -> Bytes,
    ) -> Result<Progress, TransferError> {
        while !self.finished {
            if let Passage::Limited(throttle) = &mut self.passage
                && throttle.poll_ready(cx).is_pending()
            {
                return flush(cx, client).map(|progress| match progress {
                    Progress::Client => Progress::Client,
                    _ => Progress::Throttled,
                });
            }
            let stalled = match self.filtered.take() {
                Some(filtered) if !filtered.data.is_empty() => self.poll_filtered(cx, client, filtered)?,
                Some(filtered) if filtered.last => {
                    self.finish(client, up)?;
                    None
                }
                Some(_) => self.poll_part(cx, client, up, filter)?,
                None => self.poll_plain(cx, client, up)?,
            };
            if let Some(stalled) = stalled {
                return Ok(stalled);
            }
        }
        match client.poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(Progress::Done),
            Poll::Ready(Err(error)) => Err(TransferError::Client(error)),
            Poll::Pending => Ok(Progress::Client),
        }
    }

    /// Sends the output of the filters.
    fn poll_filtered(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        mut filtered: Filtered,
    ) -> Result<Option<Progress>, TransferError> {
        let stalled = match client.poll_send(cx, allowed(&self.passage, &filtered.data)) {
            Poll::Ready(Ok(count)) => {
                self.sent(count);
                filtered.data.advance(count);
                None
            }
            Poll::Ready(Err(error)) => return Err(TransferError::Client(error)),
            Poll::Pending => Some(Progress::Client),
        };
        self.filtered = Some(filtered);
        Ok(stalled)
    }

    /// Reads a chunk from the upstream and runs the filters on it.
    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
        filter: &mut dyn FnMut(Bytes, bool) -> Bytes,
    ) -> Result<Option<Progress>, TransferError> {
        let (data, last) = match up.poll_body(cx) {
            Poll::Ready(Ok(true)) => {
                let data = Bytes::copy_from_slice(up.data());
                up.consume(data.len());
                (data, false)
            }
            Poll::Ready(Ok(false)) => (Bytes::new(), true),
            Poll::Ready(Err(error)) => return Err(TransferError::Upstream(error)),
            Poll::Pending => {
                self.filtered = Some(Filtered::default());
                return flush(cx, client).map(Some);
            }
        };
        self.filtered = Some(Filtered { data: filter(data, last), last });
        Ok(None)
    }

    fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Peer,
        up: &mut Peer,
    ) -> Result<Option<Progress>, TransferError> {
        if let Passage::Free(splice) = &mut self.passage {
            match splice.poll_body(cx, up, client, u64::MAX) {
                Poll::Ready(Ok(0)) => {}
                Poll::Ready(Ok(count)) => {
                    self.moved += count;
                    return Ok(None);
                }
                Poll::Ready(Err(SpliceError::Source(error))) => return Err(TransferError::Upstream(error)),
                Poll::Ready(Err(SpliceError::Sink(error))) => return Err(TransferError::Client(error)),
                Poll::Pending => return Ok(Some(Progress::Client)),
            }
        }
        match up.poll_body(cx) {
            Poll::Ready(Ok(true)) => match client.poll_send(cx, allowed(&self.passage, up.data())) {
                Poll::Ready(Ok(count)) => {
                    self.sent(count);
                    up.consume(count);
                    Ok(None)
                }
                Poll::Ready(Err(error)) => Err(TransferError::Client(error)),
                Poll::Pending => Ok(Some(Progress::Client)),
            },
            Poll::Ready(Ok(false)) => self.finish(client, up).map(|()| None),
            Poll::Ready(Err(error)) => Err(TransferError::Upstream(error)),
            Poll::Pending => flush(cx, client).map(Some),
        }
    }

    fn sent(&mut self, count: usize) {
        self.moved += count as u64;
        if let Passage::Limited(throttle) = &mut self.passage {
            throttle.took(count);
        }
    }

    fn finish(&mut self, client: &mut Peer, up: &Peer) -> Result<(), TransferError> {
        let trailers = passed_trailers(up.trailers(), |_| true);
        client.finish(trailers.as_deref()).map_err(TransferError::Client)?;
        self.finished = true;
        Ok(())
    }
}

/// The part of the data that may be sent now.
fn allowed<'d>(passage: &Passage, data: &'d [u8]) -> &'d [u8] {
    match passage {
        Passage::Free(_) => data,
        Passage::Limited(throttle) => data.get(..throttle.allowance()).unwrap_or(data),
    }
}

/// The trailer fields to forward: those accepted by `passes`, without fields that are only valid in a head.
fn passed_trailers(trailers: &HeaderList, passes: impl Fn(&[u8]) -> bool) -> Option<Cow<'_, HeaderList>> {
    if trailers.is_empty() {
        return None;
    }
    let is_kept = |id: Name, name: &[u8]| !belongs_in_head(id, name) && passes(name);
    if trailers.iter_known().all(|(id, name, _)| is_kept(id, name)) {
        return Some(Cow::Borrowed(trailers));
    }
    let mut passed = trailers.clone();
    passed.remove_if(|id, name, _| !is_kept(id, name));
    (!passed.is_empty()).then_some(Cow::Owned(passed))
}

/// The failure reported when a client disconnects before the response.
pub(super) fn client_gone(detail: &'static str) -> Failure {
    Failure::new(FailureKind::ClientClosed, detail)
}

/// Waits for something other than the client, as long as the client stays connected and `watch` allows.
pub(super) async fn unless_gone<T, E: From<Failure>>(
    client: &mut Peer,
    mut watch: Option<&mut Watch>,
    mut work: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, E> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Pending if client.poll_gone(cx).is_ready() => {
            Poll::Ready(Err(client_gone("before the response began").into()))
        }
        Poll::Pending => match &mut watch {
            Some(watch) => {
                check_watch(cx, watch, 0, None).map_or_else(|e| Poll::Ready(Err(e.into())), |()| Poll::Pending)
            }
            None => Poll::Pending,
        },
        outcome @ Poll::Ready(_) => outcome,
    })
    .await
}

/// Fails if a limit on the whole request has expired. `by_client`: the failure to report if the exchange is waiting for
/// the client.
pub(super) fn check_watch(
    cx: &Context<'_>,
    watch: &mut Watch,
    moved: u64,
    by_client: Option<FailureKind>,
) -> Result<(), Failure> {
    let Some((expiry, limit_ms)) = watch.poll(cx, moved) else { return Ok(()) };
    let setting = match expiry {
        Expiry::Request => "request_timeout",
        Expiry::Stream => "stream_timeout",
        Expiry::Idle => "idle_timeout",
        Expiry::PerTry => "per_try_timeout",
        Expiry::PerTryIdle => "per_try_idle_timeout",
    };
    let detail = match expiry {
        Expiry::Request | Expiry::PerTry => "no complete response from the upstream",
        Expiry::Stream => "the exchange was not over",
        Expiry::Idle | Expiry::PerTryIdle => "no byte has moved",
    };
    let by_client = by_client.filter(|_| matches!(expiry, Expiry::Idle | Expiry::PerTryIdle));
    let kind = by_client.unwrap_or(FailureKind::UpstreamTimeout);
    Err(Stall { kind, detail, setting }.failure(limit_ms))
}

/// Flushes the data written so far to the client while waiting for the upstream.
fn flush(cx: &mut Context<'_>, client: &mut Peer) -> Result<Progress, TransferError> {
    match client.poll_flush(cx) {
        Poll::Ready(Ok(())) => Ok(Progress::Upstream),
        Poll::Ready(Err(error)) => Err(TransferError::Client(error)),
        Poll::Pending => Ok(Progress::Client),
    }
}

/// A wait that has a limit: the failure when it expires, and the setting that limits it.
#[derive(Clone, Copy)]
pub(super) struct Stall {
    kind: FailureKind,
    detail: &'static str,
    setting: &'static str,
}

impl Stall {
    /// The failure after waiting `limit_ms` milliseconds.
    pub(super) fn failure(self, limit_ms: u64) -> Failure {
        Failure::new(self.kind, self.detail).within(self.setting, limit_ms)
    }
}

pub(super) const REQUEST_BODY_STALL: Stall =
    Stall { kind: FailureKind::BodyTimeout, detail: "no bytes of the request body", setting: "client_body_timeout" };
pub(super) const UPSTREAM_WRITE_STALL: Stall =
    Stall { kind: FailureKind::UpstreamWriteTimeout, detail: "the upstream took no bytes", setting: "write_timeout" };
pub(super) const CLIENT_STALL: Stall =
    Stall { kind: FailureKind::ClientTimeout, detail: "the client took no bytes", setting: "client_send_timeout" };
pub(super) const UPSTREAM_STALL: Stall =
    Stall { kind: FailureKind::UpstreamTimeout, detail: "no response from the upstream", setting: "read_timeout" };
/// The stall of a response body, after the response head.
pub(super) const RESPONSE_BODY_STALL: Stall = Stall {
    kind: FailureKind::UpstreamTimeout,
    detail: "the response body stalled: no bytes from the upstream",
    setting: "read_timeout",
};

/// How long each side may stall a direction, and the side that currently stalls it.
pub(super) struct StallTimer<'x> {
    timer: &'x Timer,
    client_ms: u64,
    upstream_ms: u64,
    client_failure: Stall,
    upstream_failure: Stall,
    waiting: Option<(Progress, u64)>,
}

impl<'x> StallTimer<'x> {
    /// For the request body.
    pub(super) fn upload(timer: &'x Timer, limits: &Limits, timeouts: &Timeouts) -> Self {
        Self {
            timer,
            client_ms: limits.body_timeout_ms,
            upstream_ms: timeouts.write_ms,
            client_failure: REQUEST_BODY_STALL,
            upstream_failure: UPSTREAM_WRITE_STALL,
            waiting: None,
        }
    }

    /// For the response; `stall` names the part that is waited for.
    pub(super) fn download(timer: &'x Timer, limits: &Limits, timeouts: &Timeouts, stall: Stall) -> Self {
        Self {
            timer,
            client_ms: limits.send_timeout_ms,
            upstream_ms: timeouts.read_ms,
            client_failure: CLIENT_STALL,
            upstream_failure: stall,
            waiting: None,
        }
    }

    /// Fails if a side has stalled for too long. `moved` is a counter that shows whether data moved since the last
    /// call.
    pub(super) fn check(&mut self, cx: &Context<'_>, progress: Progress, moved: u64) -> Result<(), Failure> {
        if matches!(progress, Progress::Done | Progress::Throttled) {
            self.timer.disarm();
            self.waiting = None;
            return Ok(());
        }
        if self.waiting != Some((progress, moved)) {
            self.waiting = Some((progress, moved));
            let wait_ms = if progress == Progress::Client { self.client_ms } else { self.upstream_ms };
            self.timer.arm(wait_ms);
            if wait_ms > 0 {
                self.timer.register(cx);
                return Ok(());
            }
        }
        if !self.timer.poll_expired(cx) {
            return Ok(());
        }
        let client = progress == Progress::Client;
        let stall = if client { self.client_failure } else { self.upstream_failure };
        Err(stall.failure(if client { self.client_ms } else { self.upstream_ms }))
    }
}

impl Drop for StallTimer<'_> {
    fn drop(&mut self) {
        self.timer.disarm();
    }
}
