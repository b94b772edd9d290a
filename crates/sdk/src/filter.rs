//! The filter trait.

use std::future::Future;
use std::pin::Pin;

use crate::certificate::{CertificateCx, CertificateStep};
use crate::filter_step::{FilterDecision, FilterStep};
use crate::phase::{BodyCx, Chunk, ConnectCx, HeadCx, LogCx, ResponseCx};
use crate::reply::Reply;
use crate::upstream_phases::{AttemptCx, RequestBodyCx};

/// One configured instance of a plugin. Built once for a generation, shared by all workers.
///
/// A filter names in [`Filter::phases`] the phases it wants; the others are never called. Within a phase filters run
/// by falling priority. A filter that replies ends the request phase; the response and log phases of all filters that
/// apply to the request still run (as in Kong).
///
/// The phases of a request in their order: [`on_request_head`](Filter::on_request_head), then for requests that go to an
/// upstream [`on_request_body`](Filter::on_request_body) as the body passes and [`on_attempt`](Filter::on_attempt) before
/// each attempt, then [`on_response_head`](Filter::on_response_head), [`on_response_body`](Filter::on_response_body) and
/// [`on_log`](Filter::on_log).
pub trait Filter: Send + Sync {
    /// The phases this instance wants, given its configuration.
    fn phases(&self) -> Phases;

    /// The request head is here, its body is not. May edit the request, reply, or go to the network.
    fn on_request_head<'a>(&'a self, _cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        Flow::Continue
    }

    /// A part of the request body is on its way to the upstream, if [`HeadCx::want_body_chunks`] asked for it. May change
    /// the part, or reply as long as no response has been sent to the client.
    ///
    /// Each byte of the body is seen once, however often the request is sent: where parts are kept for retries or copied
    /// for mirrors, these are the parts as filters have made them. The last call has [`Chunk::last`] and may have no
    /// bytes; a body that is at hand as a whole, or that is empty, comes in one call. A body that is not sent upstream is
    /// not seen.
    fn on_request_body(&self, _cx: &mut RequestBodyCx<'_>, _chunk: &mut Chunk) -> FilterDecision {
        FilterDecision::Continue
    }

    /// The request is about to be sent to an endpoint: the first one, or another one after a failed attempt. May set
    /// fields for this attempt, reply instead, or go to the network. Waiting counts towards `connect_timeout` and the
    /// limits on the request as a whole, and ends when the client leaves. Copies for mirrors have no such phase.
    fn on_attempt<'a>(&'a self, _cx: &'a mut AttemptCx<'_>) -> FilterStep<'a> {
        FilterStep::Continue
    }

    /// The response head is here, from the upstream or made locally. May edit it, ask for the body, reply instead, or go
    /// to the network. Waiting is limited by `read_timeout`, or `client_send_timeout` for a response that was made
    /// locally, and by the limits on the request as a whole; it ends when the client leaves.
    ///
    /// A reply takes the place of the response: the filters after this one see it. If the filter fails while the response
    /// to a failure is made, that is logged and the response is sent.
    fn on_response_head<'a>(&'a self, _cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        FilterStep::Continue
    }

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

    /// A client has begun a TLS handshake with a listener that terminates TLS. May supply the certificate, refuse the
    /// handshake, or go to the network; the first filter that answers decides. Without an answer the client is shown a
    /// certificate of the configuration.
    ///
    /// There is no route yet: of the filters that apply to requests without a route, those take part whose protocols
    /// include what the listener serves. Waiting is limited by `client_handshake_timeout`, for all filters of a handshake
    /// together; the rest of the handshake then has that time again. A filter that fails or is late is skipped if its
    /// plugin fails open; otherwise the handshake is refused. An instance that cannot be built does not take part,
    /// whatever its plugin says.
    ///
    /// Listeners with mutual TLS by identities, TLS that is passed through, and listeners none of whose filters has this
    /// phase do without it. Where a filter has it, a ClientHello of more than 16 KiB is refused.
    fn on_certificate<'a>(&'a self, _cx: &'a mut CertificateCx<'_>) -> CertificateStep<'a> {
        CertificateStep::Continue
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
pub struct Phases(u16);

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
    /// [`Filter::on_request_body`]
    pub const REQUEST_BODY: Self = Self(32);
    /// [`Filter::on_attempt`]
    pub const ATTEMPT: Self = Self(64);
    /// [`Filter::on_certificate`]
    pub const CERTIFICATE: Self = Self(128);

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
