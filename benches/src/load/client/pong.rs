//! Client for echoed messages, over TCP or WebSocket.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::ClientContext;
use crate::load::head;
use crate::load::link::{Buffers, Link, LinkError};
use crate::load::pace::Due;
use crate::load::plan::{Plan, Round};
use crate::load::websocket::ACCEPT;

/// Maximum number of message bytes sent before other connections are served.
const SEND_MAX: usize = 512 * 1024;
/// Maximum length of a head.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(in crate::load) struct Pong {
    token: u64,
    round: Round,
    link: Option<Link>,
    upgrade: Upgrade,
    /// When the message in flight was due.
    due: Option<Due>,
    /// Numbers of its bytes sent and received back.
    sent: usize,
    got: usize,
}

/// The handshake before the first message.
#[derive(Debug)]
enum Upgrade {
    /// There is no handshake, or it is complete.
    Done,
    /// Number of request bytes sent, and the received part of the response head.
    Under { sent: usize, head: Vec<u8> },
}

impl Pong {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        let round = plan.round(token);
        Self { token, round, link: None, upgrade: Upgrade::Done, due: None, sent: 0, got: 0 }
    }

    pub(super) fn begin(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        self.open(context)?;
        self.next(context)?;
        self.watch(context)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a message, after the handshake if required.
    pub(super) fn start(&mut self, due: Due, context: &ClientContext<'_>) -> Result<()> {
        if self.link.is_none() {
            self.open(context)?;
        }
        self.due = Some(due);
        (self.sent, self.got) = (0, 0);
        // If writing fails, an event of the connection reports it.
        self.write(context).ok();
        self.watch(context)
    }

    pub(super) fn ready(
        &mut self,
        flags: EventFlags,
        context: &mut ClientContext<'_>,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.event(flags);
        let outcome = match link.read(buffers) {
            Ok(bytes) => self.take(bytes, context).and_then(|done| self.write(context).map(|()| done)),
            Err(what) => Err(what),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(due)) => {
                context.pace.answered(context.counts, due);
                self.next(context)?;
            }
            Err(what) => self.connection_failed(what, context)?,
        }
        self.watch(context)
    }

    fn open(&mut self, context: &ClientContext<'_>) -> Result<()> {
        self.link = Some(context.open(self.token, self.round.first())?);
        self.upgrade = match context.plan.upgrade {
            true => Upgrade::Under { sent: 0, head: Vec::new() },
            false => Upgrade::Done,
        };
        Ok(())
    }

    fn next(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        self.due = None;
        context.pace.want(self.token).map_or(Ok(()), |due| self.start(due, context))
    }

    fn connection_failed(&mut self, what: LinkError, context: &mut ClientContext<'_>) -> Result<()> {
        self.link = None;
        if self.due.is_none() {
            // The next message opens a new connection.
            return Ok(());
        }
        context.failed(what);
        self.next(context)
    }

    /// Checks received bytes; returns when the message was due, if all of it has been received.
    fn take(&mut self, bytes: &[u8], context: &ClientContext<'_>) -> Result<Option<Due>, LinkError> {
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
        let expected = context.plan.back.get(self.got..self.got + bytes.len()).unwrap_or_default();
        if self.due.is_none() || expected != bytes {
            return Err("what came back is not what was sent");
        }
        self.got += bytes.len();
        context.passed(bytes.len() as u64);
        let complete = self.got == context.plan.back.len() && self.sent == context.plan.there.len();
        Ok(if complete { self.due } else { None })
    }

    fn write(&mut self, context: &ClientContext<'_>) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if let Upgrade::Under { sent, .. } = &mut self.upgrade {
            let request =
                context.plan.target(self.round.first()).map(|target| target.h1.as_slice()).unwrap_or_default();
            let unsent = request.get(*sent..).unwrap_or_default();
            *sent += if unsent.is_empty() { 0 } else { link.put(unsent)? };
            return Ok(());
        }
        let there = context.plan.there.as_slice();
        let end = there.len().min(self.sent + SEND_MAX);
        let unsent = there.get(self.sent..end).unwrap_or_default();
        if self.due.is_none() || unsent.is_empty() {
            return link.flush();
        }
        let n = link.put(unsent)?;
        self.sent += n;
        context.passed(n as u64);
        Ok(())
    }

    fn watch(&mut self, context: &ClientContext<'_>) -> Result<()> {
        let upgraded = matches!(self.upgrade, Upgrade::Done);
        let unsent = upgraded && self.due.is_some() && self.sent < context.plan.there.len();
        self.link.as_mut().map_or(Ok(()), |link| link.watch(context.epoll, true, unsent && link.is_open()))
    }
}
