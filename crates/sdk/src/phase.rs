//! Phase contexts: the data and operations available to a filter in each phase.

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
    /// The request: received from the client; edits are sent to the upstream.
    pub request: &'x mut RequestHead,
    /// The properties of the exchange.
    pub exchange: &'x mut Exchange,
    /// Changes of the upstream request besides its head.
    pub upstream: &'x mut UpstreamRequest,
    /// The node.
    pub services: &'x Services,
    /// Principals and credentials of this generation.
    pub directory: &'x Directory,
    /// The normalized path of the request, as matched by routes. The original path is in `request`.
    pub path: &'x [u8],
    /// Length of the client's request body: 0 without a body, `None` if it is only known when the body ends.
    pub body_length: Option<u64>,
    /// Returns 64 random bits on each call. Not for keys or tokens.
    pub random: &'x dyn Fn() -> u64,
    /// This filter's slot.
    pub slot: usize,
}

/// Changes of the upstream request besides its head.
#[derive(Debug, Default)]
pub struct UpstreamRequest {
    /// Upstream path, percent-encoded, including the backend's path, without the query (which stays in
    /// [`RequestHead::query`]).
    pub path: Vec<u8>,
    /// The request body, if a filter has buffered it. Setting it replaces the body.
    pub body: Option<Bytes>,
    host: Option<Box<str>>,
}

impl UpstreamRequest {
    /// Host to send in place of the one determined by route and backend.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Sets [`UpstreamRequest::host`]. Returns `false` and changes nothing if the bytes are not a host with an optional
    /// port ([`is_authority`]).
    pub fn set_host(&mut self, host: &[u8]) -> bool {
        let host = std::str::from_utf8(host).ok().filter(|host| is_authority(host.as_bytes()));
        if let Some(host) = host {
            self.host = Some(host.into());
        }
        host.is_some()
    }

    /// Resets all values, keeping the memory of the path.
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

    /// The request body, after [`Flow::NeedBody`](crate::Flow::NeedBody).
    pub fn body(&self) -> Option<&Bytes> {
        self.upstream.body.as_ref()
    }

    /// Replaces the request body. The framing headers are rewritten.
    pub fn set_body(&mut self, body: Bytes) {
        self.upstream.body = Some(body);
    }

    /// Requests the chunks of the request body on their way to the upstream: see
    /// [`Filter::on_request_body`](crate::Filter::on_request_body).
    pub fn want_body_chunks(&mut self, access: ChunkAccess) {
        let wanted = &mut self.exchange.request_chunks;
        *wanted = access.max(*wanted);
    }

    /// Limits the request body to `max` bytes; a longer one receives 413 and this message.
    pub fn limit_body(&mut self, max: u64, message: &'static str) {
        if self.exchange.request_body_max.is_none_or(|(set, _)| max < set) {
            self.exchange.request_body_max = Some((max, message));
        }
    }

    /// Limits the rate of the response body, bytes per second.
    pub fn limit_response_rate(&mut self, bytes_per_second: NonZeroU64) {
        let rate = &mut self.exchange.response_rate_max;
        *rate = Some(rate.map_or(bytes_per_second, |set| set.min(bytes_per_second)));
    }

    /// The state of this filter.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Stores state for later phases of this filter.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }

    /// Authenticates the request as `principal`, with `credential`.
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

/// How filters process the response body. The strongest requirement of all filters applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyMode {
    /// Not processed: bytes are forwarded without filters.
    #[default]
    Pass,
    /// Each chunk as it is forwarded.
    Chunks,
    /// The complete body, up to this many bytes; a longer body receives 502.
    Whole(u64),
}

/// The response head phase.
pub struct ResponseCx<'x> {
    /// The response.
    pub response: &'x mut ResponseHead,
    /// The upstream request.
    pub request: &'x RequestHead,
    /// The properties of the exchange.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl ResponseCx<'_> {
    /// The source of the response.
    pub fn source(&self) -> Source {
        self.exchange.source
    }

    /// Requests the body. A filter that changes its length in [`BodyMode::Chunks`] must remove `Content-Length`.
    pub fn want_body(&mut self, mode: BodyMode) {
        self.exchange.body_mode = match (self.exchange.body_mode, mode) {
            (BodyMode::Whole(a), BodyMode::Whole(b)) => BodyMode::Whole(a.min(b)),
            (a, b) => a.max(b),
        };
    }

    /// The state of this filter.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }

    /// Stores state for later phases of this filter.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.exchange.slots.set(self.slot, state);
    }
}

/// The response body phase.
pub struct BodyCx<'x> {
    /// The response head as sent.
    pub response: &'x ResponseHead,
    /// The upstream request.
    pub request: &'x RequestHead,
    /// The properties of the exchange.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl BodyCx<'_> {
    /// The state of this filter.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.exchange.slots.get_mut(self.slot)
    }
}

/// A chunk of a body.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Its bytes; may be replaced.
    pub data: Bytes,
    /// This is the last chunk.
    pub last: bool,
}

/// The log phase: the exchange has ended and cannot be changed.
pub struct LogCx<'x> {
    /// The upstream request.
    pub request: &'x RequestHead,
    /// The response as sent; `None` for a stream session and for a client that disconnected before.
    pub response: Option<&'x ResponseHead>,
    /// The properties of the exchange.
    pub exchange: &'x Exchange,
    /// The normalized path of the request, as matched by routes; empty for a stream session.
    pub path: &'x [u8],
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}

impl LogCx<'_> {
    /// The state of this filter.
    pub fn state<T: Send + 'static>(&self) -> Option<&T> {
        self.exchange.slots.get(self.slot)
    }
}

/// A connection of a stream route.
pub struct ConnectCx<'x> {
    /// The properties of the exchange.
    pub exchange: &'x mut Exchange,
    /// The node.
    pub services: &'x Services,
    /// This filter's slot.
    pub slot: usize,
}
