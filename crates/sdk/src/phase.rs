//! Phase contexts: what a filter sees and may do in each phase.

use std::net::IpAddr;
use std::num::NonZeroU64;

use bytes::Bytes;
use cardinal_http::{RequestHead, ResponseHead, is_authority};

use crate::directory::Directory;
use crate::exchange::{CredentialRef, Exchange};
use crate::services::Services;
use crate::upstream_phases::ChunkAccess;
use crate::{PrincipalEntry, Source};
use std::sync::Arc;

/// The request phase.
pub struct HeadCx<'x> {
    /// The request: as the client sent it, and, edited, as the upstream gets it.
    pub request: &'x mut RequestHead,
    /// The facts.
    pub exchange: &'x mut Exchange,
    /// What is asked of the upstream besides the head.
    pub upstream: &'x mut UpstreamRequest,
    /// The node.
    pub services: &'x Services,
    /// Principals and credentials of this generation.
    pub directory: &'x Directory,
    /// The path of the request, normalised as routes see it. The client's own is in `request`.
    pub path: &'x [u8],
    /// Length of the client's request body: 0 without one, `None` when only its end will tell.
    pub body_length: Option<u64>,
    /// 64 random bits at each call. Not for keys or tokens.
    pub random: &'x dyn Fn() -> u64,
    /// This filter's slot.
    pub slot: usize,
}

/// What is asked of the upstream besides the request head.
#[derive(Debug, Default)]
pub struct UpstreamRequest {
    /// Path to ask for, percent-encoded, with the backend's path in front, without the query (which stays in
    /// [`RequestHead::query`]).
    pub path: Vec<u8>,
    /// The request body, once a filter asked for it whole. Setting it replaces the body.
    pub body: Option<Bytes>,
    host: Option<Box<str>>,
}

impl UpstreamRequest {
    /// Host to send instead of the one that route and backend give.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Sets [`UpstreamRequest::host`]. `false` when the bytes are not a host with an optional port
    /// ([`is_authority`]); then nothing changes.
    pub fn set_host(&mut self, host: &[u8]) -> bool {
        let host = std::str::from_utf8(host).ok().filter(|host| is_authority(host.as_bytes()));
        if let Some(host) = host {
            self.host = Some(host.into());
        }
        host.is_some()
    }

    /// Forgets everything, keeping the memory of the path.
    pub fn clear(&mut self) {
        self.path.clear();
        self.body = None;
        self.host = None;
    }
}

impl HeadCx<'_> {
    /// The client's address.
    pub fn client_ip(&self) -> IpAddr {
        self.exchange.client.ip
    }

    /// The request body, once [`Flow::NeedBody`](crate::Flow::NeedBody) has brought it.
    pub fn body(&self) -> Option<&Bytes> {
        self.upstream.body.as_ref()
    }

    /// Replaces the request body. The framing headers are made anew.
    pub fn set_body(&mut self, body: Bytes) {
        self.upstream.body = Some(body);
    }

    /// Asks for the parts of the request body on their way to the upstream: see
    /// [`Filter::on_request_body`](crate::Filter::on_request_body).
    pub fn want_body_chunks(&mut self, access: ChunkAccess) {
        let wanted = &mut self.exchange.request_chunks;
        *wanted = access.max(*wanted);
    }

    /// Lets at most `max` bytes of request body pass; a longer one is answered with 413 and this message.
    pub fn limit_body(&mut self, max: u64, message: &'static str) {
        if self.exchange.request_body_max.is_none_or(|(set, _)| max < set) {
            self.exchange.request_body_max = Some((max, message));
        }
    }

    /// Lets at most so many bytes of the response body pass in each second.
    pub fn limit_response_rate(&mut self, bytes_per_second: NonZeroU64) {
        let rate = &mut self.exchange.response_rate_max;
        *rate = Some(rate.map_or(bytes_per_second, |set| set.min(bytes_per_second)));
    }

    /// This filter's state.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Keeps state for this filter's later phases.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }

    /// The request is authenticated: as `principal`, with `credential`.
    pub fn authenticate(&mut self, principal: Option<Arc<PrincipalEntry>>, credential: Option<CredentialRef>) {
        self.exchange.identity.principal = principal;
        self.exchange.identity.credential = credential;
    }

    /// The value of a query argument, percent-decoded; the first one, `Some("")` for `?name`.
    pub fn query_argument(&self, name: &str) -> Option<Vec<u8>> {
        let query = self.request.query()?;
        cardinal_http::query::arguments(query, 1_000)
            .find(|(key, _)| key == name.as_bytes())
            .map(|(_, value)| value.unwrap_or_default())
    }
}

/// What filters want of the response body. The strongest wish of all filters holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyMode {
    /// Nothing: bytes pass unseen.
    #[default]
    Pass,
    /// Every part as it passes.
    Chunks,
    /// All at once, up to so many bytes; a longer body is answered with 502.
    Whole(u64),
}

/// The response head phase.
pub struct ResponseCx<'x> {
    /// The response.
    pub response: &'x mut ResponseHead,
    /// The request, as it went upstream.
    pub request: &'x RequestHead,
    /// The facts.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl ResponseCx<'_> {
    /// Who made the response.
    pub fn source(&self) -> Source {
        self.exchange.source
    }

    /// Asks for the body. A filter that will change its length in [`BodyMode::Chunks`] must remove `Content-Length`.
    pub fn want_body(&mut self, mode: BodyMode) {
        self.exchange.body_mode = match (self.exchange.body_mode, mode) {
            (BodyMode::Whole(a), BodyMode::Whole(b)) => BodyMode::Whole(a.min(b)),
            (a, b) => a.max(b),
        };
    }

    /// This filter's state.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Keeps state for this filter's later phases.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }
}

/// The response body phase.
pub struct BodyCx<'x> {
    /// The response head, as it is sent.
    pub response: &'x ResponseHead,
    /// The request, as it went upstream.
    pub request: &'x RequestHead,
    /// The facts.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl BodyCx<'_> {
    /// This filter's state.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }
}

/// A part of a body.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Its bytes; may be replaced.
    pub data: Bytes,
    /// Nothing comes after it.
    pub last: bool,
}

/// The log phase: everything is over and nothing can be changed.
pub struct LogCx<'x> {
    /// The request, as it went upstream.
    pub request: &'x RequestHead,
    /// The response, as it was sent; `None` for a stream session and for a client that left before.
    pub response: Option<&'x ResponseHead>,
    /// The facts.
    pub exchange: &'x Exchange,
    /// The path of the request, normalised as routes see it; empty for a stream session.
    pub path: &'x [u8],
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl LogCx<'_> {
    /// This filter's state.
    pub fn state<T: Send + 'static>(&self) -> Option<&T> {
        self.exchange.slots.get(self.slot)
    }
}

/// A connection of a stream route.
pub struct ConnectCx<'x> {
    /// The facts.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}
