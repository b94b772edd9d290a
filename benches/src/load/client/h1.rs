//! HTTP/1.1 client: sends one request after another, on one connection or on a new one for each.

use anyhow::Result;
use rustix::event::epoll::EventFlags;

use super::ClientContext;
use crate::load::link::{Buffers, Link, LinkError};
use crate::load::pace::Due;
use crate::load::plan::{BLOCK, Plan, Round, Target};
use crate::load::response::{Progress, Response};

/// Maximum number of body blocks written before other connections are served.
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
    /// No request is in progress.
    Idle,
    /// A request to a target: number of bytes sent of its text, and remaining bytes of its body.
    Busy { due: Due, target: usize, sent: usize, rest: u64 },
    /// The response is complete; the proxy has to close the connection.
    Closing,
}

impl H1 {
    pub(super) fn new(token: u64, plan: &Plan) -> Self {
        Self { token, round: plan.round(token), link: None, state: State::Idle, response: Response::default() }
    }

    pub(super) fn begin(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        if !context.plan.fresh() {
            self.open(context)?;
        }
        self.next(context)?;
        self.watch(context)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.link.as_ref().is_none_or(Link::is_open)
    }

    /// Sends a request.
    pub(super) fn start(&mut self, due: Due, context: &ClientContext<'_>) -> Result<()> {
        if self.link.is_none() {
            self.open(context)?;
        }
        let target = self.round.next();
        let rest = context.plan.target(target).map_or(0, |target| target.h1_rest);
        self.state = State::Busy { due, target, sent: 0, rest };
        self.response = Response::default();
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
        let outcome = link.read(buffers).and_then(|bytes| match self.state {
            _ if bytes.is_empty() => Ok(Progress::More),
            State::Busy { .. } => self.response.push(bytes, context.plan.down),
            State::Idle | State::Closing => Err("bytes came that nobody asked for"),
        });
        context.passed(self.response.take_arrived());
        match outcome.and_then(|progress| self.write(context).map(|()| progress)) {
            Ok(Progress::More) => {}
            Ok(Progress::Done { close }) => self.answered(close, context)?,
            Err(what) => self.connection_failed(what, context)?,
        }
        self.watch(context)
    }

    fn open(&mut self, context: &ClientContext<'_>) -> Result<()> {
        self.link = Some(context.open(self.token, self.round.first())?);
        Ok(())
    }

    /// Sends the next request, if one is due.
    fn next(&mut self, context: &mut ClientContext<'_>) -> Result<()> {
        self.state = State::Idle;
        context.pace.want(self.token).map_or(Ok(()), |due| self.start(due, context))
    }

    fn answered(&mut self, close: bool, context: &mut ClientContext<'_>) -> Result<()> {
        let State::Busy { due, .. } = self.state else { return Ok(()) };
        if self.unsent(context) {
            return self.connection_failed("the answer came before the request was sent", context);
        }
        context.pace.answered(context.counts, due);
        if context.plan.fresh() && close {
            self.state = State::Closing;
            return Ok(());
        }
        if context.plan.fresh() {
            // The proxy does not close the connection as requested.
            if let Some(link) = self.link.take() {
                link.abort();
            }
        } else if close {
            self.open(context)?;
        }
        self.next(context)
    }

    /// Handles the failure of the connection.
    fn connection_failed(&mut self, what: LinkError, context: &mut ClientContext<'_>) -> Result<()> {
        self.link = None;
        match self.state {
            // A proxy may close an idle connection; the next request opens a new one.
            State::Idle => Ok(()),
            State::Closing => self.next(context),
            State::Busy { .. } => {
                context.failed(what);
                self.next(context)
            }
        }
    }

    /// Continues sending the request.
    fn write(&mut self, context: &ClientContext<'_>) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let State::Busy { target, sent, rest, .. } = &mut self.state else { return link.flush() };
        let Some(Target { h1: text, h1_head: head, .. }) = context.plan.target(*target) else { return Ok(()) };
        let unsent = text.get(*sent..).unwrap_or_default();
        if unsent.is_empty() && *rest == 0 {
            return link.flush();
        }
        if !unsent.is_empty() {
            let n = link.put(unsent)?;
            context.passed((*sent + n).saturating_sub((*sent).max(*head)) as u64);
            *sent += n;
            if n < unsent.len() {
                return Ok(());
            }
        }
        for _block in 0..BLOCKS_AT_ONCE {
            let size = (*rest).min(BLOCK as u64) as usize;
            let n = if size > 0 { link.put(context.plan.block.get(..size).unwrap_or_default())? } else { 0 };
            *rest -= n as u64;
            context.passed(n as u64);
            if n < size || size == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Whether part of the request is still unsent.
    fn unsent(&self, context: &ClientContext<'_>) -> bool {
        let State::Busy { target, sent, rest, .. } = self.state else { return false };
        rest > 0 || context.plan.target(target).is_some_and(|target| sent < target.h1.len())
    }

    fn watch(&mut self, context: &ClientContext<'_>) -> Result<()> {
        let unsent = self.unsent(context);
        self.link.as_mut().map_or(Ok(()), |link| link.watch(context.epoll, true, unsent && link.is_open()))
    }
}
