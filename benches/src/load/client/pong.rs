//! Messages that are sent back: over TCP, or over a WebSocket.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::Turn;
use crate::load::head;
use crate::load::link::{Broken, Buffers, Link};
use crate::load::pace::Due;
use crate::load::plan::{Plan, Round};
use crate::load::websocket::ACCEPT;

/// Bytes of a message that are sent before others get their turn.
const SEND_MAX: usize = 512 * 1024;
/// Heads longer than this are wrong.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(in crate::load) struct Pong {
    token: u64,
    round: Round,
    link: Option<Link>,
    upgrade: Upgrade,
    /// A message is under way.
    due: Option<Due>,
    /// Bytes of it that were sent, and that came back.
    sent: usize,
    got: usize,
}

/// The handshake before the first message.
#[derive(Debug)]
enum Upgrade {
    /// There is none, or it is over.
    Done,
    /// Bytes that were sent of the request, and what has come of the answer's head.
    Under { sent: usize, head: Vec<u8> },
}

impl Pong {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        let round = plan.round(token);
        Self { token, round, link: None, upgrade: Upgrade::Done, due: None, sent: 0, got: 0 }
    }

    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        self.open(turn)?;
        self.next(turn)?;
        self.watch(turn)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a message, if need be after the handshake.
    pub(super) fn start(&mut self, due: Due, turn: &Turn<'_>) -> Result<()> {
        if self.link.is_none() {
            self.open(turn)?;
        }
        self.due = Some(due);
        (self.sent, self.got) = (0, 0);
        // If it fails, an event of the connection tells so.
        self.write(turn).ok();
        self.watch(turn)
    }

    pub(super) fn ready(&mut self, flags: EventFlags, turn: &mut Turn<'_>, buffers: &mut Buffers) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.event(flags);
        let outcome = match link.read(buffers) {
            Ok(bytes) => self.take(bytes, turn).and_then(|done| self.write(turn).map(|()| done)),
            Err(what) => Err(what),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(due)) => {
                turn.pace.answered(turn.counts, due);
                self.next(turn)?;
            }
            Err(what) => self.broken(what, turn)?,
        }
        self.watch(turn)
    }

    fn open(&mut self, turn: &Turn<'_>) -> Result<()> {
        self.link = Some(turn.open(self.token, self.round.first())?);
        self.upgrade = match turn.plan.upgrade {
            true => Upgrade::Under { sent: 0, head: Vec::new() },
            false => Upgrade::Done,
        };
        Ok(())
    }

    fn next(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        self.due = None;
        turn.pace.want(self.token).map_or(Ok(()), |due| self.start(due, turn))
    }

    fn broken(&mut self, what: Broken, turn: &mut Turn<'_>) -> Result<()> {
        self.link = None;
        if self.due.is_none() {
            // The next message opens a connection.
            return Ok(());
        }
        turn.failed(what);
        self.next(turn)
    }

    /// Takes what came; gives when the message was due, if all of it is back.
    fn take(&mut self, bytes: &[u8], turn: &Turn<'_>) -> Result<Option<Due>, Broken> {
        if let Upgrade::Under { head, .. } = &mut self.upgrade {
            head.extend_from_slice(bytes);
            match head::end(head) {
                None if head.len() > HEAD_MAX => return Err("the head does not end"),
                None => return Ok(None),
                Some(end) if end < head.len() => return Err("bytes came that nobody asked for"),
                Some(_) if !head.starts_with(b"HTTP/1.1 101") => return Err("the status is not 101"),
                Some(_) if head::field(head, b"sec-websocket-accept:") != Some(ACCEPT.as_bytes()) => {
                    return Err("the handshake is wrong");
                }
                Some(_) => self.upgrade = Upgrade::Done,
            }
            return Ok(None);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let expected = turn.plan.back.get(self.got..self.got + bytes.len()).unwrap_or_default();
        if self.due.is_none() || expected != bytes {
            return Err("what came back is not what was sent");
        }
        self.got += bytes.len();
        turn.passed(bytes.len() as u64);
        let complete = self.got == turn.plan.back.len() && self.sent == turn.plan.there.len();
        Ok(if complete { self.due } else { None })
    }

    fn write(&mut self, turn: &Turn<'_>) -> Result<(), Broken> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if let Upgrade::Under { sent, .. } = &mut self.upgrade {
            let request = turn.plan.target(self.round.first()).map(|target| target.h1.as_slice()).unwrap_or_default();
            let unsent = request.get(*sent..).unwrap_or_default();
            *sent += if unsent.is_empty() { 0 } else { link.put(unsent)? };
            return Ok(());
        }
        let there = turn.plan.there.as_slice();
        let end = there.len().min(self.sent + SEND_MAX);
        let unsent = there.get(self.sent..end).unwrap_or_default();
        if self.due.is_none() || unsent.is_empty() {
            return link.flush();
        }
        let n = link.put(unsent)?;
        self.sent += n;
        turn.passed(n as u64);
        Ok(())
    }

    fn watch(&mut self, turn: &Turn<'_>) -> Result<()> {
        let upgraded = matches!(self.upgrade, Upgrade::Done);
        let unsent = upgraded && self.due.is_some() && self.sent < turn.plan.there.len();
        self.link.as_mut().map_or(Ok(()), |link| link.watch(turn.epoll, true, unsent && link.is_open()))
    }
}
