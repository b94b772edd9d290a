//! HTTP/2 and gRPC: several requests at a time on a connection.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::Turn;
use crate::load::counts::count;
use crate::load::h2::frame::{Frame, Reader};
use crate::load::h2::hpack::{self, Status};
use crate::load::h2::wire::Wire;
use crate::load::link::{Broken, Buffers, Link};
use crate::load::pace::Due;
use crate::load::plan::{Plan, Round};
use crate::load::work::Kind;

/// The code of a stream that was not looked at.
const REFUSED_STREAM: u32 = 7;
/// A connection is given up when its streams have these numbers.
const ID_MAX: u32 = 1 << 30;

#[derive(Debug)]
pub(in crate::load) struct H2 {
    token: u64,
    round: Round,
    link: Option<Link>,
    wire: Wire,
    reader: Reader,
    slots: Vec<Slot>,
    /// Slots that are waiting, and that are busy.
    waiting: usize,
    busy: u32,
    next_id: u32,
    /// No more requests go on this connection.
    draining: bool,
    table: Table,
}

/// A place for a request.
#[derive(Debug, Default)]
struct Slot {
    state: State,
    due: Due,
    id: u32,
    /// Bytes of the body that came.
    got: u64,
    /// The fields before it came, and those after it, and were right.
    head: bool,
    trailers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no request.
    #[default]
    Free,
    /// It could not be sent yet.
    Waiting,
    Busy,
}

/// What the other end knows of the fields that each request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Empty,
    Filled,
    /// It wants to know nothing, and has been told that it will not.
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

    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        self.open(turn)?;
        self.next(self.slots.len(), turn);
        self.send(turn)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a request.
    pub(super) fn start(&mut self, due: Due, turn: &Turn<'_>) -> Result<()> {
        self.place(due);
        self.send(turn)
    }

    pub(super) fn ready(&mut self, flags: EventFlags, turn: &mut Turn<'_>, buffers: &mut Buffers) -> Result<()> {
        let free = self.free();
        let mut reader = std::mem::take(&mut self.reader);
        let Some(link) = &mut self.link else { return Ok(()) };
        link.event(flags);
        let outcome = link.read(buffers).and_then(|bytes| reader.push(bytes, &mut |frame| self.take(frame, turn)));
        self.reader = reader;
        if let Err(what) = outcome {
            self.broken(what, turn);
        } else if self.draining && self.busy == 0 {
            self.link = None;
        }
        self.next(self.free().saturating_sub(free), turn);
        self.send(turn)
    }

    fn open(&mut self, turn: &Turn<'_>) -> Result<()> {
        self.link = Some(turn.open(self.token, self.round.first())?);
        self.wire = Wire::client(turn.plan.kind != Kind::Grpc);
        self.reader = Reader::default();
        (self.next_id, self.draining, self.table) = (1, false, Table::Empty);
        Ok(())
    }

    fn free(&self) -> usize {
        self.slots.len() - self.waiting - self.busy as usize
    }

    /// Asks for requests for so many free places.
    fn next(&mut self, places: usize, turn: &mut Turn<'_>) {
        for _place in 0..places {
            if let Some(due) = turn.pace.want(self.token) {
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

    /// Sends what waits, on a new connection if there is none.
    fn send(&mut self, turn: &Turn<'_>) -> Result<()> {
        if self.link.is_none() && self.waiting > 0 {
            self.open(turn)?;
        }
        if self.waiting > 0 && !self.draining {
            self.send_waiting(turn);
        }
        if let Some(link) = &mut self.link {
            turn.passed(self.wire.pump(&turn.plan.content, &[]));
            // If it fails, an event of the connection tells so.
            self.wire.flush(link).ok();
            let writes = self.wire.is_sending() && link.is_open();
            link.watch(turn.epoll, true, writes)?;
        }
        Ok(())
    }

    fn send_waiting(&mut self, turn: &Turn<'_>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Waiting) {
            if self.busy >= self.wire.streams_max {
                break;
            }
            let Some(target) = turn.plan.target(self.round.next()) else { break };
            let common = &turn.plan.common;
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
            let content = !turn.plan.content.is_empty();
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

    fn take(&mut self, frame: Frame<'_>, turn: &mut Turn<'_>) -> Result<(), Broken> {
        match frame {
            Frame::Headers { id, block, end } => {
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                if !slot.head {
                    match hpack::status(block)? {
                        Status::Ok => slot.head = true,
                        Status::Interim if !end => {}
                        Status::Interim | Status::Other => return Err("the status is not 200"),
                    }
                } else if turn.plan.kind == Kind::Grpc {
                    slot.trailers = hpack::grpc_ok(block)?;
                }
                if end { self.finish(id, turn) } else { Ok(()) }
            }
            Frame::Data { id, bytes, end, .. } => {
                self.wire.take(frame)?;
                turn.passed(u64::from(bytes));
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                slot.got += u64::from(bytes);
                if end { self.finish(id, turn) } else { Ok(()) }
            }
            Frame::Reset { id, code } => {
                self.wire.take(frame)?;
                let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
                self.busy -= 1;
                if code == REFUSED_STREAM {
                    slot.state = State::Waiting;
                    self.waiting += 1;
                    count(&turn.counts.retried, 1);
                } else {
                    slot.state = State::Free;
                    turn.failed("a stream was reset");
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
                    count(&turn.counts.retried, 1);
                }
                Ok(())
            }
            Frame::Settings { .. } | Frame::Ping { .. } | Frame::Window { .. } => self.wire.take(frame),
        }
    }

    /// The answer on a stream is complete.
    fn finish(&mut self, id: u32, turn: &mut Turn<'_>) -> Result<(), Broken> {
        let Some(slot) = busy(&mut self.slots, id) else { return Ok(()) };
        slot.state = State::Free;
        self.busy -= 1;
        let wrong = if !slot.head {
            Some("there was no head")
        } else if turn.plan.kind == Kind::Grpc && !slot.trailers {
            Some("gRPC's status is not 0")
        } else if slot.got != turn.plan.content_back {
            Some("the length is wrong")
        } else if !turn.plan.content.is_empty() && self.wire.sends(id) {
            Some("the answer came before the request was sent")
        } else {
            None
        };
        match wrong {
            None => turn.pace.answered(turn.counts, slot.due),
            Some(what) => turn.failed(what),
        }
        Ok(())
    }

    /// The connection is over.
    fn broken(&mut self, what: Broken, turn: &mut Turn<'_>) {
        self.link = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Busy) {
            turn.failed(what);
            slot.state = State::Free;
        }
        self.busy = 0;
    }
}

/// The place whose request has this stream.
fn busy(slots: &mut [Slot], id: u32) -> Option<&mut Slot> {
    slots.iter_mut().find(|slot| slot.id == id && slot.state == State::Busy)
}
