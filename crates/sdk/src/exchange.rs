//! [`Exchange`]: the properties of one request (or stream session), as seen by all phases.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;

use cardinal_base::{Reservation, Tick, UnixMillis};
use cardinal_http::{FailureKind, Method, Version};
use cardinal_ir::{Backend, Cluster, Id, Route, Target, Wire};

use crate::directory::{CredentialEntry, PrincipalEntry};
use crate::phase::BodyMode;
use crate::trace::SpanContext;
use crate::upstream_phases::ChunkAccess;

/// Identifies a request in headers, logs and error bodies. Displayed as 32 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The properties of one request.
#[derive(Debug)]
pub struct Exchange {
    /// Its id.
    pub id: RequestId,
    /// The client and its connection.
    pub client: Client,
    /// The original request line.
    pub original: Original,
    /// The matched route; `None` before the match and without one.
    pub route: Option<RouteInfo>,
    /// The backend of the route.
    pub backend: Option<Arc<BackendInfo>>,
    /// The captures of the path pattern.
    pub captures: Captures,
    /// The authenticated identity.
    pub identity: Identity,
    /// Timestamps.
    pub timing: Timing,
    /// Attempts to reach an upstream.
    pub tries: Vec<Try>,
    /// Numbers of transferred bytes.
    pub bytes: Bytes,
    /// The source of the response.
    pub source: Source,
    /// The failure, if the request failed.
    pub failure: Option<FailureKind>,
    /// Path and query sent upstream; empty if none was.
    pub upstream_uri: Vec<u8>,
    /// `Set-Cookie` values to add to the response.
    pub response_cookies: Vec<String>,
    /// Additional fields for log records: `correlation_id`.
    pub log_fields: Vec<(&'static str, serde_json::Value)>,
    /// Per-filter state, by slot.
    pub slots: Slots,
    /// The trace context of the request; `None` without tracing.
    pub trace: Option<SpanContext>,
    /// How filters process the response body.
    pub body_mode: BodyMode,
    /// How filters process the chunks of the request body.
    pub request_chunks: ChunkAccess,
    /// Maximum size of the request body and the message for longer ones, if a filter set them.
    pub request_body_max: Option<(u64, &'static str)>,
    /// Maximum rate of the response body, bytes per second, if a filter set it.
    pub response_rate_max: Option<NonZeroU64>,
    /// Memory reserved for buffered bodies, until the end of the exchange.
    pub held: Reservation,
}

/// The original request line.
#[derive(Clone, Debug, Default)]
pub struct Original {
    /// Method.
    pub method: Method,
    /// Target: path and query, unchanged.
    pub target: Vec<u8>,
    /// Host without port, lower-case; empty if absent.
    pub host: String,
    /// The port of the request's authority, or else the listener's.
    pub port: u16,
}

/// The client of a request and its connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The peer address of the connection.
    pub peer: SocketAddr,
    /// The local address of the connection.
    pub local: SocketAddr,
    /// The client address: the peer's, or the one reported by a trusted peer in a header or by the PROXY protocol.
    pub ip: IpAddr,
    /// The client's port, if known.
    pub port: u16,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// TLS on the connection.
    pub tls: Option<Arc<TlsInfo>>,
    /// The TLS server name, lower-case, of a connection whose TLS is passed through to the upstream.
    pub passed_server_name: Option<Arc<str>>,
    /// The SPIFFE ID proved by the peer in mutual TLS. `None`: the peer has no verified identity.
    pub peer_identity: Option<Arc<str>>,
    /// The protocol, as used for matching.
    pub wire: Wire,
    /// The request counts as HTTPS: because of TLS, or because a trusted peer reports it.
    pub https: bool,
    /// HTTP version.
    pub version: Version,
    /// Number of the connection on this node.
    pub connection: u64,
    /// Number of the request on its connection, from 1.
    pub sequence: u64,
}

impl Client {
    /// A client with this address, in clear text; for tests.
    pub fn at(peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            peer,
            local,
            ip: peer.ip(),
            port: peer.port(),
            trusted: false,
            tls: None,
            passed_server_name: None,
            peer_identity: None,
            wire: Wire::Http,
            https: false,
            version: Version::H11,
            connection: 0,
            sequence: 1,
        }
    }
}

impl Client {
    /// The TLS server name, lower-case, for terminated and passed-through TLS.
    pub fn server_name(&self) -> Option<&str> {
        let ended_here = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        ended_here.or(self.passed_server_name.as_deref())
    }
}

/// TLS on a client's connection.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// `TLSv1.3`
    pub version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`
    pub cipher: String,
    /// Server name, lower-case.
    pub sni: Option<Box<str>>,
    /// Negotiated ALPN protocol.
    pub alpn: Option<Box<str>>,
    /// `NONE`, `SUCCESS` or `FAILED:reason`, as nginx's `$ssl_client_verify`.
    pub client_verify: Box<str>,
    /// The client's certificate, DER.
    pub client_certificate: Option<Arc<[u8]>>,
}

/// A route, as seen by logs and filters: a handle on the record.
#[derive(Clone, Debug)]
pub struct RouteInfo(Arc<Route>);

impl RouteInfo {
    /// The route of a record.
    pub const fn new(record: Arc<Route>) -> Self {
        Self(record)
    }

    /// The id known to users.
    pub fn id(&self) -> Id {
        self.0.origin.id
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.0.origin.name.as_deref()
    }

    /// Its tenant.
    pub fn tenant(&self) -> Option<Id> {
        self.0.tenant()
    }

    /// The user's object as compact JSON.
    pub fn document(&self) -> Cow<'_, str> {
        self.0.document()
    }
}

/// A backend, as seen by logs and filters: a handle on the records.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    record: Arc<Backend>,
    group: Option<Arc<Cluster>>,
}

impl BackendInfo {
    /// The backend of a record, and its cluster, if it has one.
    pub const fn new(record: Arc<Backend>, group: Option<Arc<Cluster>>) -> Self {
        Self { record, group }
    }

    /// The id known to users.
    pub fn id(&self) -> Id {
        self.record.origin.id
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.record.origin.name.as_deref()
    }

    /// The configured host: a name or an address, or the name of its cluster.
    pub fn host(&self) -> &str {
        match &self.record.target {
            Target::Host(host) => &host.host,
            Target::Cluster { .. } => self.group.as_ref().and_then(|g| g.origin.name.as_deref()).unwrap_or_default(),
        }
    }

    /// The user's object as compact JSON.
    pub fn document(&self) -> Cow<'_, str> {
        self.record.document()
    }
}

/// The captures of the route's path pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// By number; 0 is the whole match.
    pub numbered: Vec<Option<Box<str>>>,
    /// By name.
    pub named: Vec<(Box<str>, Box<str>)>,
}

impl Captures {
    /// A capture by name, or by number written in digits.
    pub fn get(&self, key: &str) -> Option<&str> {
        if let Some((_, value)) = self.named.iter().find(|(name, _)| **name == *key) {
            return Some(value);
        }
        self.numbered.get(key.parse::<usize>().ok()?)?.as_deref()
    }

    /// Removes all captures.
    pub fn clear(&mut self) {
        self.numbered.clear();
        self.named.clear();
    }
}

/// The identity as which a request is authenticated.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The principal (consumer).
    pub principal: Option<Arc<PrincipalEntry>>,
    /// The credential used. `None` for an anonymous principal.
    pub credential: Option<CredentialRef>,
    /// Groups reported by an authentication filter, without a principal's own groups.
    pub authenticated_groups: Option<Vec<Box<str>>>,
}

/// The credential of a request.
#[derive(Clone, Debug)]
pub struct CredentialRef(Proof);

#[derive(Clone, Debug)]
enum Proof {
    Entry(Arc<CredentialEntry>),
    Foreign { id: Arc<str>, principal: Option<Id> },
}

impl CredentialRef {
    /// A credential of the directory.
    pub fn of(entry: &Arc<CredentialEntry>) -> Self {
        Self(Proof::Entry(Arc::clone(entry)))
    }

    /// A credential that is not in the directory: a text that replaces its id, and its owner.
    pub fn foreign(id: impl Into<Arc<str>>, principal: Option<Id>) -> Self {
        Self(Proof::Foreign { id: id.into(), principal })
    }

    /// Its id, or the replacement, as text.
    pub fn id(&self) -> CredentialId<'_> {
        match &self.0 {
            Proof::Entry(entry) => CredentialId::of(entry),
            Proof::Foreign { id, .. } => CredentialId(IdText::Foreign(id)),
        }
    }

    /// The owner.
    pub fn principal(&self) -> Option<Id> {
        match &self.0 {
            Proof::Entry(entry) => Some(entry.record.principal),
            Proof::Foreign { principal, .. } => *principal,
        }
    }

    /// The entry, if the credential is in the directory.
    pub fn entry(&self) -> Option<&Arc<CredentialEntry>> {
        match &self.0 {
            Proof::Entry(entry) => Some(entry),
            Proof::Foreign { .. } => None,
        }
    }
}

/// The id of a credential as text, formatted without allocating.
#[derive(Clone, Debug)]
pub struct CredentialId<'c>(IdText<'c>);

#[derive(Clone, Debug)]
enum IdText<'c> {
    Made([u8; uuid::fmt::Hyphenated::LENGTH]),
    Foreign(&'c str),
}

impl CredentialId<'_> {
    /// The id of a credential of the directory.
    pub fn of(entry: &CredentialEntry) -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        entry.id.hyphenated().encode_lower(&mut text);
        Self(IdText::Made(text))
    }
}

impl std::ops::Deref for CredentialId<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // Digits and dashes are valid UTF-8.
            IdText::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
            IdText::Foreign(text) => text,
        }
    }
}

impl Identity {
    /// Whether an authentication filter has accepted the request, including as an anonymous principal.
    pub fn is_authenticated(&self) -> bool {
        self.credential.is_some()
    }
}

/// Timestamps of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// When the first byte of the request was read.
    pub started: Tick,
    /// The same on the wall clock.
    pub started_unix: UnixMillis,
    /// When the request phase of the filters ended.
    pub filtered: Tick,
    /// When the wait for the upstream's response head began.
    pub upstream_sent: Option<Tick>,
    /// When the upstream's response head arrived.
    pub upstream_head: Option<Tick>,
    /// When the last byte was sent to the client.
    pub ended: Tick,
}

/// An attempt to reach an upstream.
#[derive(Clone, Debug)]
pub struct Try {
    /// The endpoint.
    pub address: SocketAddr,
    /// When the endpoint was chosen, on the wall clock.
    pub started: UnixMillis,
    /// When the endpoint was chosen.
    pub tick: Tick,
    /// Duration of the endpoint selection, microseconds.
    pub balancer_us: u64,
    /// The outcome; `None` while in progress and on success.
    pub state: Option<TryState>,
    /// Status of the response, or the status that represents the failure.
    pub status: Option<u16>,
}

/// The outcome of an unsuccessful attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryState {
    /// No response.
    Failed,
    /// A response that caused a retry at the next endpoint.
    Next,
}

/// Bytes transferred on the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// Head and body of the request.
    pub received: u64,
    /// Head and body of the response.
    pub sent: u64,
    /// Body of the response.
    pub body_sent: u64,
    /// Stream sessions: received from the upstream.
    pub upstream_received: u64,
    /// Stream sessions: sent to the upstream.
    pub upstream_sent: u64,
}

/// The source of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// A local reply, by a filter or the proxy itself: a rejection, an error.
    #[default]
    Local,
    /// The upstream.
    Upstream,
}

/// State that a filter keeps from phase to phase.
pub type State = Box<dyn Any + Send>;

/// Per-filter state, in slots numbered at plan time.
#[derive(Default)]
pub struct Slots(Vec<Option<State>>);

impl Slots {
    /// Drops all states and reserves slots for `count` filters.
    pub fn reset(&mut self, count: usize) {
        self.0.clear();
        self.0.resize_with(count, || None);
    }

    pub(crate) fn get_mut<T: 'static>(&mut self, slot: usize) -> Option<&mut T> {
        self.0.get_mut(slot)?.as_mut()?.downcast_mut()
    }

    pub(crate) fn get<T: 'static>(&self, slot: usize) -> Option<&T> {
        self.0.get(slot)?.as_ref()?.downcast_ref()
    }

    pub(crate) fn set<T: Send + 'static>(&mut self, slot: usize, state: T) {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some(Box::new(state));
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({})", self.0.len())
    }
}

impl Exchange {
    /// The initial state, with only the client known.
    pub fn new(client: Client) -> Self {
        Self {
            id: RequestId::default(),
            client,
            original: Original::default(),
            route: None,
            backend: None,
            captures: Captures::default(),
            identity: Identity::default(),
            timing: Timing::default(),
            tries: Vec::new(),
            bytes: Bytes::default(),
            source: Source::Local,
            failure: None,
            upstream_uri: Vec::new(),
            response_cookies: Vec::new(),
            log_fields: Vec::new(),
            slots: Slots::default(),
            trace: None,
            body_mode: BodyMode::Pass,
            request_chunks: ChunkAccess::None,
            request_body_max: None,
            response_rate_max: None,
            held: Reservation::default(),
        }
    }

    /// Resets it for the connection's next request, keeping the memory.
    pub fn clear(&mut self) {
        self.original.target.clear();
        self.original.host.clear();
        self.route = None;
        self.backend = None;
        self.captures.clear();
        self.identity = Identity::default();
        self.timing = Timing::default();
        self.tries.clear();
        self.bytes = Bytes::default();
        self.source = Source::Local;
        self.failure = None;
        self.upstream_uri.clear();
        self.response_cookies.clear();
        self.log_fields.clear();
        self.slots.reset(0);
        self.trace = None;
        self.body_mode = BodyMode::Pass;
        self.request_chunks = ChunkAccess::None;
        self.request_body_max = None;
        self.response_rate_max = None;
        self.held.clear();
    }
}
