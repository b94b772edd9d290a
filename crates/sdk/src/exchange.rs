//! [`Exchange`]: the facts about one request (or one stream session), as all phases see them.

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

/// Identifies a request in headers, logs and error bodies. Displays as 32 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The facts about one request.
#[derive(Debug)]
pub struct Exchange {
    /// Its id.
    pub id: RequestId,
    /// Who sent it, over what.
    pub client: Client,
    /// The request line as it came.
    pub original: Original,
    /// The matched route; `None` before the match and without one.
    pub route: Option<RouteInfo>,
    /// The backend of the route.
    pub backend: Option<Arc<BackendInfo>>,
    /// What the path pattern captured.
    pub captures: Captures,
    /// Who it is authenticated as.
    pub identity: Identity,
    /// When things happened.
    pub timing: Timing,
    /// Attempts to reach an upstream.
    pub tries: Vec<Try>,
    /// Bytes moved.
    pub bytes: Bytes,
    /// Who made the response.
    pub source: Source,
    /// Why it ended early.
    pub failure: Option<FailureKind>,
    /// Request path and query sent upstream; empty when none was.
    pub upstream_uri: Vec<u8>,
    /// `Set-Cookie` values that the response gets.
    pub response_cookies: Vec<String>,
    /// Further fields for log records: `correlation_id`.
    pub log_fields: Vec<(&'static str, serde_json::Value)>,
    /// Per-filter state, by slot.
    pub slots: Slots,
    /// The trace that it is part of, and its span; `None` where no tracing applies.
    pub trace: Option<SpanContext>,
    /// What filters want of the response body.
    pub body_mode: BodyMode,
    /// What filters do with the parts of the request body.
    pub request_chunks: ChunkAccess,
    /// Most bytes of request body that may pass, if a filter said so, and the reply to more.
    pub request_body_max: Option<(u64, &'static str)>,
    /// Most bytes of the response body that may pass in each second, if a filter said so.
    pub response_rate_max: Option<NonZeroU64>,
    /// Memory that is held for its bodies, until it is over.
    pub held: Reservation,
}

/// The request line as it came.
#[derive(Clone, Debug, Default)]
pub struct Original {
    /// Method.
    pub method: Method,
    /// Target: path and query, as they came.
    pub target: Vec<u8>,
    /// Host without port, lower-case; empty when there was none.
    pub host: String,
    /// The port of the request's authority, else the listener's.
    pub port: u16,
}

/// Who sent a request, over what.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// This end of the connection.
    pub local: SocketAddr,
    /// The client's address: the peer's, or what a trusted peer said by header or PROXY protocol.
    pub ip: IpAddr,
    /// The client's port, where known.
    pub port: u16,
    /// Whether the peer is trusted to say who the client is.
    pub trusted: bool,
    /// TLS on the connection.
    pub tls: Option<Arc<TlsInfo>>,
    /// The TLS server name, lower-case, of a connection whose TLS ends at the upstream.
    pub passed_server_name: Option<Arc<str>>,
    /// The SPIFFE ID that the peer has proved by mutual TLS. `None`: the peer has no verified identity.
    pub peer_identity: Option<Arc<str>>,
    /// What was spoken, as matching sees it.
    pub wire: Wire,
    /// The request counts as made over HTTPS: by TLS, or because a trusted peer says so.
    pub https: bool,
    /// HTTP version.
    pub version: Version,
    /// Number of the connection on this node.
    pub connection: u64,
    /// Number of the request on its connection, from 1.
    pub sequence: u64,
}

impl Client {
    /// A client of this address, in clear text; what tests start from.
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
    /// The TLS server name, lower-case, wherever TLS ends.
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
    /// Negotiated protocol.
    pub alpn: Option<Box<str>>,
    /// `NONE`, `SUCCESS` or `FAILED:reason`, as nginx's `$ssl_client_verify`.
    pub client_verify: Box<str>,
    /// The client's certificate, DER.
    pub client_certificate: Option<Arc<[u8]>>,
}

/// A route, as logs and filters see it. It reads through the record; a clone is another handle.
#[derive(Clone, Debug)]
pub struct RouteInfo(Arc<Route>);

impl RouteInfo {
    /// The route of a record.
    pub const fn new(record: Arc<Route>) -> Self {
        Self(record)
    }

    /// The id users know.
    pub fn id(&self) -> Id {
        self.0.origin.id
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.0.origin.name.as_deref()
    }

    /// The user's object as compact JSON.
    pub fn document(&self) -> Cow<'_, str> {
        self.0.document()
    }
}

/// A backend, as logs and filters see it. It reads through the records.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    record: Arc<Backend>,
    group: Option<Arc<Cluster>>,
}

impl BackendInfo {
    /// The backend of a record, and the group that it names, if it does.
    pub const fn new(record: Arc<Backend>, group: Option<Arc<Cluster>>) -> Self {
        Self { record, group }
    }

    /// The id users know.
    pub fn id(&self) -> Id {
        self.record.origin.id
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.record.origin.name.as_deref()
    }

    /// The host it was configured with: a name or an address, or the name of its group.
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

/// What the route's path pattern captured.
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

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.numbered.clear();
        self.named.clear();
    }
}

/// Who a request is authenticated as.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The principal (consumer).
    pub principal: Option<Arc<PrincipalEntry>>,
    /// The credential it proved itself with. `None` for an anonymous principal.
    pub credential: Option<CredentialRef>,
    /// Groups that an authentication filter vouches for, without a principal's own.
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

    /// One that is not in the directory: what stands for its id, and whose it is.
    pub fn foreign(id: impl Into<Arc<str>>, principal: Option<Id>) -> Self {
        Self(Proof::Foreign { id: id.into(), principal })
    }

    /// Its id, or what stands for it, as text.
    pub fn id(&self) -> CredentialId<'_> {
        match &self.0 {
            Proof::Entry(entry) => CredentialId::of(entry),
            Proof::Foreign { id, .. } => CredentialId(IdText::Foreign(id)),
        }
    }

    /// Whose it is.
    pub fn principal(&self) -> Option<Id> {
        match &self.0 {
            Proof::Entry(entry) => Some(entry.record.principal),
            Proof::Foreign { principal, .. } => *principal,
        }
    }

    /// The credential itself, when it is one of the directory's.
    pub fn entry(&self) -> Option<&Arc<CredentialEntry>> {
        match &self.0 {
            Proof::Entry(entry) => Some(entry),
            Proof::Foreign { .. } => None,
        }
    }
}

/// The id of a credential as text, made without allocating.
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
            // Digits and dashes are text.
            IdText::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
            IdText::Foreign(text) => text,
        }
    }
}

impl Identity {
    /// Whether an authentication filter has let the request in, be it as an anonymous principal.
    pub fn is_authenticated(&self) -> bool {
        self.credential.is_some()
    }
}

/// When things happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// The first byte of the request was read.
    pub started: Tick,
    /// The same on the wall clock.
    pub started_unix: UnixMillis,
    /// The request phase of the filters ended.
    pub filtered: Tick,
    /// Time spent waiting for the upstream's response head began.
    pub upstream_sent: Option<Tick>,
    /// The upstream's response head arrived.
    pub upstream_head: Option<Tick>,
    /// The last byte went to the client.
    pub ended: Tick,
}

/// An attempt to reach an upstream.
#[derive(Clone, Debug)]
pub struct Try {
    /// Whom.
    pub address: SocketAddr,
    /// When the endpoint was chosen, on the wall clock.
    pub started: UnixMillis,
    /// When the endpoint was chosen.
    pub tick: Tick,
    /// Microseconds that choosing took.
    pub balancer_us: u64,
    /// What became of it; `None` while in progress and on success.
    pub state: Option<TryState>,
    /// Status of the answer, or the one that stands for its failure.
    pub status: Option<u16>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryState {
    /// No answer.
    Failed,
    /// An answer that made the next endpoint be tried.
    Next,
}

/// Bytes moved on the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// Head and body of the request.
    pub received: u64,
    /// Head and body of the response.
    pub sent: u64,
    /// Body of the response.
    pub body_sent: u64,
    /// Stream sessions: from the upstream.
    pub upstream_received: u64,
    /// Stream sessions: to the upstream.
    pub upstream_sent: u64,
}

/// Who made the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// A filter, or the proxy itself: a refusal, an error.
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
    /// Forgets all states and makes room for `count`.
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
    /// The facts before anything is known but the client.
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

    /// Makes it ready for the connection's next request, keeping the memory.
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
