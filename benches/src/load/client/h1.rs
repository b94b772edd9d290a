//! HTTP/1.1: a request, its answer, the next request; on one connection or on one for each.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::Turn;
use crate::load::link::{Broken, Buffers, Link};
use crate::load::pace::Due;
use crate::load::plan::{BLOCK, Plan, Round, Target};
use crate::load::response::{Progress, Response};

/// Pieces of a body written before other connections get their turn.
const BLOCKS_AT_ONCE: usize = 4;

#[derive(Debug)]
pub(in crate::load) struct H1 {
    token: u64,
    round: Round,
    link: Option<Link>,
    state: State,
    response: Response,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// There is no request.
    Idle,
    /// A request to a target: bytes sent of its text, and bytes of its body still to be sent after that.
    Busy { due: Due, target: usize, sent: usize, rest: u64 },
    /// The answer is complete; the proxy is to close the connection.
    Closing,
}

impl H1 {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        Self { token, round: plan.round(token), link: None, state: State::Idle, response: Response::default() }
    }

    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        if !turn.plan.fresh() {
            self.open(turn)?;
        }
        self.next(turn)?;
        self.watch(turn)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a request.
    pub(super) fn start(&mut self, due: Due, turn: &Turn<'_>) -> Result<()> {
        if self.link.is_none() {
            self.open(turn)?;
        }
        let target = self.round.next();
        let rest = turn.plan.target(target).map_or(0, |target| target.h1_rest);
        self.state = State::Busy { due, target, sent: 0, rest };
        self.response = Response::default();
        // If it fails, an event of the connection tells so.
        self.write(turn).ok();
        self.watch(turn)
    }

    pub(super) fn ready(&mut self, flags: EventFlags, turn: &mut Turn<'_>, buffers: &mut Buffers) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.event(flags);
        let outcome = link.read(buffers).and_then(|bytes| match self.state {
            _ if bytes.is_empty() => Ok(Progress::More),
            State::Busy { .. } => self.response.push(bytes, turn.plan.down),
            State::Idle | State::Closing => Err("bytes came that nobody asked for"),
        });
        turn.passed(self.response.take_arrived());
        match outcome.and_then(|progress| self.write(turn).map(|()| progress)) {
            Ok(Progress::More) => {}
            Ok(Progress::Done { close }) => self.answered(close, turn)?,
            Err(what) => self.broken(what, turn)?,
        }
        self.watch(turn)
    }

    fn open(&mut self, turn: &Turn<'_>) -> Result<()> {
        self.link = Some(turn.open(self.token, self.round.first())?);
        Ok(())
    }

    /// Sends the next request, if it is time.
    fn next(&mut self, turn: &mut Turn<'_>) -> Result<()> {
        self.state = State::Idle;
        turn.pace.want(self.token).map_or(Ok(()), |due| self.start(due, turn))
    }

    fn answered(&mut self, close: bool, turn: &mut Turn<'_>) -> Result<()> {
        let State::Busy { due, .. } = self.state else { return Ok(()) };
        if self.unsent(turn) {
            return self.broken("the answer came before the request was sent", turn);
        }
        turn.pace.answered(turn.counts, due);
        if turn.plan.fresh() && close {
            self.state = State::Closing;
            return Ok(());
        }
        if turn.plan.fresh() {
            // A proxy that does not do as it is asked.
            if let Some(link) = self.link.take() {
                link.abort();
            }
        } else if close {
            self.open(turn)?;
        }
        self.next(turn)
    }

    /// The connection is over.
    fn broken(&mut self, what: Broken, turn: &mut Turn<'_>) -> Result<()> {
        self.link = None;
        match self.state {
            // A proxy may close a connection that does nothing; the next request opens one.
            State::Idle => Ok(()),
            State::Closing => self.next(turn),
            State::Busy { .. } => {
                turn.failed(what);
                self.next(turn)
            }
        }
    }

    /// Sends more of the request.
    fn write(&mut self, turn: &Turn<'_>) -> Result<(), Broken> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let State::Busy { target, sent, rest, .. } = &mut self.state else { return link.flush() };
        let Some(Target { h1: text, h1_head: head, .. }) = turn.plan.target(*target) else { return Ok(()) };
        let unsent = text.get(*sent..).unwrap_or_default();
        if unsent.is_empty() && *rest == 0 {
            return link.flush();
        }
        if !unsent.is_empty() {
            let n = link.put(unsent)?;
            turn.passed((*sent + n).saturating_sub((*sent).max(*head)) as u64);
            *sent += n;
            if n < unsent.len() {
                return Ok(());
            }
        }
        for _block in 0..BLOCKS_AT_ONCE {
            let size = (*rest).min(BLOCK as u64) as usize;
            let n = if size > 0 { link.put(turn.plan.block.get(..size).unwrap_or_default())? } else { 0 };
            *rest -= n as u64;
            turn.passed(n as u64);
            if n < size || size == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Some of the request is still to be sent.
    fn unsent(&self, turn: &Turn<'_>) -> bool {
        let State::Busy { target, sent, rest, .. } = self.state else { return false };
        rest > 0 || turn.plan.target(target).is_some_and(|target| sent < target.h1.len())
    }

    fn watch(&mut self, turn: &Turn<'_>) -> Result<()> {
        let unsent = self.unsent(turn);
        self.link.as_mut().map_or(Ok(()), |link| link.watch(turn.epoll, true, unsent && link.is_open()))
    }
}
