//! HTTP/2 and gRPC client: several concurrent requests on a connection.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::ClientContext;
use crate::load::counts::count;
use crate::load::h2::frame::{Frame, Reader};
use crate::load::h2::hpack::{self, Status};
use crate::load::h2::wire::Wire;
use crate::load::link::{Buffers, Link, LinkError};
use crate::load::pace::Due;
use crate::load::plan::{Plan, Round};
use crate::load::work::Kind;

/// The error code of a stream that was not processed.
const REFUSED_STREAM: u32 = 7;
/// The connection is replaced when its stream ids reach this number.
const ID_MAX: u32 = 1 << 30;

#[derive(Debug)]
pub(in crate::load) struct H2 {
    token: u64,
    round: Round,
    link: Option<Link>,
    wire: Wire,
    reader: Reader,
    slots: Vec<Slot>,
    /// Numbers of waiting and of busy slots.
    waiting: usize,
    busy: u32,
    next_id: u32,
    /// No further requests are sent on this connection.
    draining: bool,
    table: Table,
}

/// A slot for a request.
#[derive(Debug, Default)]
struct Slot {
    state: State,
    due: Due,
    id: u32,
    /// Number of received body bytes.
    got: u64,
    /// The head has been received and is correct; and the trailers.
    head: bool,
    trailers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No request is in progress.
    #[default]
    Free,
    /// The request could not be sent yet.
    Waiting,
    Busy,
}

/// The peer's header table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Empty,
    Filled,
    /// The peer uses no table, and was informed that this side does not either.
    None,
}

impl H2 {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        Self {
            token,
            round: plan.round(token),
            link: None,
            wire: Wire::client(true),
            reader: Reader::default(),
            slots: (0..plan.streams).map(|_| Slot::default()).collect(),
            waiting: 0,
            busy: 0,
            next_id: 1,
            draining: false,
            table: Table::Empty,
        }
    }

    pub(super) fn begin(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        self.open(context)?;
        self.next(self.slots.len(), context);
        self.send(context)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a request.
    pub(super) fn start(&mut self, due: Due, context: &ClientContext<'_>) -> Result<()> {
        self.place(due);
        self.send(context)
    }

    pub(super) fn ready(
        &mut self,
        flags: EventFlags,
        context: &mut ClientContext<'_>,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let free = self.free();
        let mut reader = std::mem::take(&mut self.reader);
        let Some(link) = &mut self.link else { return Ok(()) };
        link.event(flags);
        let outcome = link.read(buffers).and_then(|bytes| reader.push(bytes, &mut |frame| self.take(frame, context)));
        self.reader = reader;
        if let Err(what) = outcome {
            self.connection_failed(what, context);
        } else if self.draining && self.busy == 0 {
            self.link = None;
        }
        self.next(self.free().saturating_sub(free), context);
        self.send(context)
    }

    fn open(&mut self, context: &ClientContext<'_>) -> Result<()> {
        self.link = Some(context.open(self.token, self.round.first())?);
        self.wire = Wire::client(context.plan.kind != Kind::Grpc);
        self.reader = Reader::default();
        (self.next_id, self.draining, self.table) = (1, false, Table::Empty);
        Ok(())
    }

    fn free(&self) -> usize {
        self.slots.len() - self.waiting - self.busy as usize
    }

    /// Requests work for this many free slots.
    fn next(&mut self, places: usize, context: &mut ClientContext<'_>) {
        for _place in 0..places {
            if let Some(due) = context.pace.want(self.token) {
                self.place(due);
            }
        }
    }

    fn place(&mut self, due: Due) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.state == State::Free) {
            *slot = Slot { state: State::Waiting, due, ..Slot::default() };
            self.waiting += 1;
        }
    }

    /// Sends the waiting requests, on a new connection if there is none.
    fn send(&mut self, context: &ClientContext<'_>) -> Result<()> {
        if self.link.is_none() && self.waiting > 0 {
            self.open(context)?;
        }
        if self.waiting > 0 && !self.draining {
            self.send_waiting(context);
        }
        if let Some(link) = &mut self.link {
            context.passed(self.wire.pump(&context.plan.content, &[]));
            // If flushing fails, an event of the connection reports it.
            self.wire.flush(link).ok();
            let writes = self.wire.is_sending() && link.is_open();
            link.watch(context.epoll, true, writes)?;
        }
        Ok(())
    }

    fn send_waiting(&mut self, context: &ClientContext<'_>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Waiting) {
            if self.busy >= self.wire.streams_max {
                break;
            }
            let Some(target) = context.plan.target(self.round.next()) else { break };
            let common = &context.plan.common;
            let mut change = Vec::new();
            let fields = match self.table {
                Table::None => &common.plain,
                Table::Empty | Table::Filled if !self.wire.table => {
                    self.table = Table::None;
                    hpack::no_table(&mut change);
                    &common.plain
                }
                Table::Empty => {
                    self.table = Table::Filled;
                    &common.first
                }
                Table::Filled => &common.later,
            };
            let content = !context.plan.content.is_empty();
            self.wire.headers(self.next_id, &[&change, &target.h2, fields], !content);
            if content {
                self.wire.begin(self.next_id, 0);
            }
            *slot = Slot { state: State::Busy, id: self.next_id, due: slot.due, ..Slot::default() };
            self.waiting -= 1;
            self.busy += 1;
            self.next_id += 2;
            self.draining |= self.next_id >= ID_MAX;
            if self.draining {
                break;
            }
        }
    }

    fn take(&mut self, frame: Frame<'_>, context: &mut ClientContext<'_>) -> Result<(), LinkError> {
        match frame {
            Frame::Headers { id, block, end } => {
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                if !slot.head {
                    match hpack::status(block)? {
                        Status::Ok => slot.head = true,
                        Status::Interim if !end => {}
                        Status::Interim | Status::Other => return Err("the status is not 200"),
                    }
                } else if context.plan.kind == Kind::Grpc {
                    slot.trailers = hpack::grpc_ok(block)?;
                }
                if end { self.finish(id, context) } else { Ok(()) }
            }
            Frame::Data { id, bytes, end, .. } => {
                self.wire.take(frame)?;
                context.passed(u64::from(bytes));
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                slot.got += u64::from(bytes);
                if end { self.finish(id, context) } else { Ok(()) }
            }
            Frame::Reset { id, code } => {
                self.wire.take(frame)?;
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                self.busy -= 1;
                if code == REFUSED_STREAM {
                    slot.state = State::Waiting;
                    self.waiting += 1;
                    count(&context.counts.retried, 1);
                } else {
                    slot.state = State::Free;
                    context.failed("a stream was reset");
                }
                Ok(())
            }
            Frame::GoAway { last } => {
                self.draining = true;
                for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Busy && slot.id > last) {
                    self.wire.take(Frame::Reset { id: slot.id, code: 0 })?;
                    slot.state = State::Waiting;
                    self.busy -= 1;
                    self.waiting += 1;
                    count(&context.counts.retried, 1);
                }
                Ok(())
            }
            Frame::Settings { .. } | Frame::Ping { .. } | Frame::Window { .. } => self.wire.take(frame),
        }
    }

    /// Handles the complete response on a stream.
    fn finish(&mut self, id: u32, context: &mut ClientContext<'_>) -> Result<(), LinkError> {
        let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
        slot.state = State::Free;
        self.busy -= 1;
        let wrong = if !slot.head {
            Some("there was no head")
        } else if context.plan.kind == Kind::Grpc && !slot.trailers {
            Some("gRPC's status is not 0")
        } else if slot.got != context.plan.content_back {
            Some("the length is wrong")
        } else if !context.plan.content.is_empty() && self.wire.sends(id) {
            Some("the answer came before the request was sent")
        } else {
            None
        };
        match wrong {
            None => context.pace.answered(context.counts, slot.due),
            Some(what) => context.failed(what),
        }
        Ok(())
    }

    /// Handles the failure of the connection.
    fn connection_failed(&mut self, what: LinkError, context: &mut ClientContext<'_>) {
        self.link = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Busy) {
            context.failed(what);
            slot.state = State::Free;
        }
        self.busy = 0;
    }
}

/// The slot of the request on this stream.
fn busy(slots: &mut [Slot], id: u32) -> Option<&mut Slot> {
    slots.iter_mut().find(|slot| slot.id == id && slot.state == State::Busy)
}
