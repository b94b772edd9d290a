//! [`ClientBody`]: the body of a request on its client's connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use cardinal_http::h1::Framing;
use cardinal_http::{Failure, FailureKind};
use cardinal_net::Peer;

use super::body::{Body, body_max};
use super::collect::{BODY_RATE_MIN, Collect, Terms, collect};
use super::forward::{REQUEST_BODY_STALL, TransferError, client_gone};
use super::reply::send_continue;
use super::session::Session;
use crate::exchange::{NO_ROOM, Scratch};
use crate::plan::Plan;

/// The request body, read from the client's connection.
pub(super) struct ClientBody<'x> {
    pub(super) down: &'x mut Peer,
    pub(super) session: &'x mut Session,
}

impl Body for ClientBody<'_> {
    fn length(&self) -> Option<u64> {
        match self.session.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    fn whole<'a>(
        &'a mut self,
        plan: &'a Plan,
        s: &'a mut Scratch,
        max: u64,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + 'a>> {
        Box::pin(async move {
            if self.session.framing == Framing::None {
                return Ok(Bytes::new());
            }
            send_continue(plan, self.down, self.session, s).await?;
            let limits = &plan.node().limits;
            let max = max.min(limits.buffered_body_bytes_max).min(body_max(limits, s));
            let too_large = || Failure::new(FailureKind::BodyTooLarge, "request body over its limit");
            if matches!(self.session.framing, Framing::Length(length) if length > max) {
                return Err(too_large());
            }
            let expected = match self.session.framing {
                Framing::Length(length) => length,
                _ => max,
            };
            let terms = Terms {
                max,
                expected,
                timeout_ms: limits.body_timeout_ms,
                late: REQUEST_BODY_STALL,
                slowest: BODY_RATE_MIN,
                budget: &plan.services.memory,
            };
            let read = collect(self.down, &terms, &s.down_timer, &mut s.exchange.held, |_, _, _| Ok(())).await;
            let whole = read.map_err(|error| match error {
                Collect::TooLarge => too_large(),
                Collect::NoRoom => Failure::new(FailureKind::Overloaded, NO_ROOM),
                Collect::TransferError(error) => TransferError::Client(error).failure(),
                Collect::Halted(halt) => halt.into_failure(),
            })?;
            s.exchange.bytes.received += whole.len() as u64;
            Ok(whole)
        })
    }

    fn pause<'a>(&'a mut self, s: &'a Scratch, ms: u64) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        let (timer, client) = (&s.down_timer, &mut *self.down);
        timer.arm(ms.max(1));
        Box::pin(async move {
            let outcome = poll_fn(|cx| {
                if timer.poll_expired(cx) {
                    return Poll::Ready(Ok(()));
                }
                let is_gone = client.poll_gone(cx).is_ready();
                if is_gone { Poll::Ready(Err(client_gone("while the request was delayed"))) } else { Poll::Pending }
            })
            .await;
            timer.disarm();
            outcome
        })
    }
}
