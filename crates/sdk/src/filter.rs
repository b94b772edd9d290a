//! The filter trait.

use std::future::Future;
use std::pin::Pin;

use crate::certificate::{CertificateCx, CertificateStep};
use crate::filter_step::{FilterDecision, FilterStep};
use crate::phase::{BodyCx, Chunk, ConnectCx, HeadCx, LogCx, ResponseCx};
use crate::reply::Reply;
use crate::upstream_phases::{AttemptCx, RequestBodyCx};

/// One configured instance of a plugin. Built once per generation, shared by all workers.
///
/// A filter declares its phases in [`Filter::phases`]; other phases are never called. Within a phase, filters run by
/// descending priority. A filter that replies ends the request phase; the response and log phases of all filters that
/// apply to the request still run (as in Kong).
///
/// The phases of a request in order: [`on_request_head`](Filter::on_request_head); for forwarded requests,
/// [`on_request_body`](Filter::on_request_body) as the body is streamed and [`on_attempt`](Filter::on_attempt) before
/// each attempt; then [`on_response_head`](Filter::on_response_head), [`on_response_body`](Filter::on_response_body)
/// and [`on_log`](Filter::on_log).
pub trait Filter: Send + Sync {
    /// The phases of this instance, given its configuration.
    fn phases(&self) -> Phases;

    /// The request head has been received, its body has not. May edit the request, reply, or wait for the network.
    fn on_request_head<'a>(&'a self, _cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        Flow::Continue
    }

    /// A chunk of the request body is about to be sent to the upstream; called if requested by
    /// [`HeadCx::want_body_chunks`]. May change the chunk, or reply as long as no response has been sent to the client.
    ///
    /// Each byte of the body is passed exactly once, however often the request is sent: chunks that are kept for
    /// retries or copied for mirrors are the output of the filters. The last call has [`Chunk::last`] set and may have
    /// no bytes; an empty body, or one that is buffered completely, is passed in one call. A body that is not sent
    /// upstream is not passed.
    fn on_request_body(&self, _cx: &mut RequestBodyCx<'_>, _chunk: &mut Chunk) -> FilterDecision {
        FilterDecision::Continue
    }

    /// The request is about to be sent to an endpoint: the first one, or another one after a failed attempt. May set
    /// header fields for this attempt, reply instead, or wait for the network. Waiting counts towards `connect_timeout`
    /// and the limits on the whole request, and ends when the client disconnects. Mirror copies have no such phase.
    fn on_attempt<'a>(&'a self, _cx: &'a mut AttemptCx<'_>) -> FilterStep<'a> {
        FilterStep::Continue
    }

    /// The response head is available, from the upstream or made locally. May edit it, request the body, reply instead,
    /// or wait for the network. Waiting is limited by `read_timeout`, or `client_send_timeout` for a local reply, and
    /// by the limits on the whole request; it ends when the client disconnects.
    ///
    /// A reply replaces the response: the following filters see the reply. If the filter fails while the response to a
    /// failure is made, the failure is logged and the response is sent.
    fn on_response_head<'a>(&'a self, _cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        FilterStep::Continue
    }

    /// A chunk of the response body; called if requested by [`ResponseCx::want_body`].
    fn on_response_body(&self, _cx: &mut BodyCx<'_>, _chunk: &mut Chunk) {}

    /// The exchange has ended.
    fn on_log(&self, _cx: &LogCx<'_>) {}

    /// Whether the filter reads a credential from the request header of this name, or guarantees its value. A trailer
    /// field with this name is never forwarded, because no filter checks it.
    fn owns_header(&self, _name: &[u8]) -> bool {
        false
    }

    /// A connection of a stream route (TCP, TLS, UDP) was accepted.
    fn on_connect(&self, _cx: &mut ConnectCx<'_>) -> Admit {
        Admit::Yes
    }

    /// A client has started a TLS handshake with a listener that terminates TLS. May supply the certificate, refuse the
    /// handshake, or wait for the network; the first filter that answers is decisive. Without an answer, a certificate
    /// of the configuration is used.
    ///
    /// There is no route yet: of the filters that apply to requests without a route, those take part whose protocols
    /// include that of the listener. Waiting is limited by `client_handshake_timeout`, for all filters of a handshake
    /// together; the rest of the handshake then has the same timeout again. A filter that fails or times out is skipped
    /// if its plugin fails open; otherwise, the handshake is refused. An instance that cannot be built does not take
    /// part, regardless of its plugin's failure mode.
    ///
    /// The phase does not run for listeners with mutual TLS by identities, for passed-through TLS, and for listeners
    /// without such filters. If it runs, a ClientHello of more than 16 KiB is refused.
    fn on_certificate<'a>(&'a self, _cx: &'a mut CertificateCx<'_>) -> CertificateStep<'a> {
        CertificateStep::Continue
    }
}

/// The result of a filter's request phase.
pub enum Flow<'a> {
    /// Continue with the next filter.
    Continue,
    /// Reply; the request phases of later filters are skipped.
    Reply(Box<Reply>),
    /// Buffer the request body, up to `max` bytes; then call the same filter again, with [`HeadCx::body`] set. A larger
    /// body receives 413.
    NeedBody {
        /// Maximum size, bytes; the node's own limit applies too.
        max: u64,
    },
    /// Wait for the given time, at least 1 ms; then call the same filter again. The wait and the request end early if
    /// the client disconnects.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Wait for the future, and use its verdict.
    Wait(Pin<Box<dyn Future<Output = Verdict> + 'a>>),
    /// The filter failed with this reason, which is logged; the client receives 500 `An unexpected error occurred`.
    Fail(String),
}

impl Flow<'_> {
    /// A reply.
    pub fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// The decision of a filter after it has waited.
pub enum Verdict {
    /// Continue with the next filter.
    Continue,
    /// This reply.
    Reply(Box<Reply>),
    /// Buffer the request body; see [`Flow::NeedBody`].
    NeedBody {
        /// Maximum size, bytes.
        max: u64,
    },
    /// Wait; see [`Flow::Delay`].
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The filter failed.
    Fail(String),
}

impl Flow<'_> {
    /// The decision; waits if the filter does.
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

/// Whether a stream connection is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Admit the connection.
    Yes,
    /// Close the connection.
    No,
}

/// A set of phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases(u16);

impl Phases {
    /// No phases.
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

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set contains all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
