//! The filter trait.

use std::future::Future;
use std::pin::Pin;

use crate::phase::{BodyCx, Chunk, ConnectCx, HeadCx, LogCx, ResponseCx};
use crate::reply::Reply;

/// One configured instance of a plugin. Built once for a generation, shared by all workers.
///
/// A filter names in [`Filter::phases`] the phases it wants; the others are never called. Within a phase filters run
/// by falling priority. A filter that replies ends the request phase; the response and log phases of all filters that
/// apply to the request still run (as in Kong).
pub trait Filter: Send + Sync {
    /// The phases this instance wants, given its configuration.
    fn phases(&self) -> Phases;

    /// The request head is here, its body is not. May edit the request, reply, or go to the network.
    fn on_request_head<'a>(&'a self, _cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        Flow::Continue
    }

    /// The response head is here, from the upstream or made locally. May edit it, and ask for the body.
    fn on_response_head(&self, _cx: &mut ResponseCx<'_>) {}

    /// A part of the response body, if [`ResponseCx::want_body`] asked for it.
    fn on_response_body(&self, _cx: &mut BodyCx<'_>, _chunk: &mut Chunk) {}

    /// The exchange is over.
    fn on_log(&self, _cx: &LogCx<'_>) {}

    /// Whether the filter takes a credential from the request header of this name, or vouches for its value. A trailer
    /// field of this name is never passed on: nothing has looked at it.
    fn owns_header(&self, _name: &[u8]) -> bool {
        false
    }

    /// A connection of a stream route (TCP, TLS, UDP) is here.
    fn on_connect(&self, _cx: &mut ConnectCx<'_>) -> Admit {
        Admit::Yes
    }
}

/// What comes after a filter's request phase.
pub enum Flow<'a> {
    /// The next filter.
    Continue,
    /// This reply; later filters' request phases are skipped.
    Reply(Box<Reply>),
    /// The request body first, up to `max` bytes; then the same filter again, with [`HeadCx::body`] set. A larger body
    /// is answered with 413.
    NeedBody {
        /// Bytes to hold at most; the node's own limit applies too.
        max: u64,
    },
    /// A wait of so many milliseconds, at least 1; then the same filter again. It ends early, with the request, when the
    /// client leaves.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// What the future says.
    Wait(Pin<Box<dyn Future<Output = Verdict> + 'a>>),
    /// The filter failed: the reason is logged, the client gets 500 `An unexpected error occurred`.
    Fail(String),
}

impl Flow<'_> {
    /// A reply.
    pub fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// What a filter decided, once it waits no more.
pub enum Verdict {
    /// The next filter.
    Continue,
    /// This reply.
    Reply(Box<Reply>),
    /// The request body first; see [`Flow::NeedBody`].
    NeedBody {
        /// Bytes to hold at most.
        max: u64,
    },
    /// A wait; see [`Flow::Delay`].
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The filter failed.
    Fail(String),
}

impl Flow<'_> {
    /// The decision, waiting for it where the filter does.
    pub async fn settle(self) -> Verdict {
        match self {
            Flow::Continue => Verdict::Continue,
            Flow::Reply(reply) => Verdict::Reply(reply),
            Flow::NeedBody { max } => Verdict::NeedBody { max },
            Flow::Delay { ms } => Verdict::Delay { ms },
            Flow::Wait(future) => future.await,
            Flow::Fail(reason) => Verdict::Fail(reason),
        }
    }
}

/// Whether a stream connection may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Yes.
    Yes,
    /// No: the connection is closed.
    No,
}

/// A set of phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// None.
    pub const NONE: Self = Self(0);
    /// [`Filter::on_request_head`]
    pub const REQUEST: Self = Self(1);
    /// [`Filter::on_response_head`]
    pub const RESPONSE: Self = Self(2);
    /// [`Filter::on_response_body`]
    pub const RESPONSE_BODY: Self = Self(4);
    /// [`Filter::on_log`]
    pub const LOG: Self = Self(8);
    /// [`Filter::on_connect`]
    pub const CONNECT: Self = Self(16);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
