//! The intermediate representation: front ends lower to it, and the engine plans from it.
//!
//! Flat tables of plain values keyed by id. A child refers to its parent, so one edit changes one record, and the
//! record is the unit of diff, transfer, hashing and rejection. Records are sent to other nodes and stored, so every
//! field has a default, and names of fields and variants do not change. No record contains a secret: a [`SecretRef`]
//! refers to an entry in [`Secrets`], a separate store.
//!
//! Policies are typed. Those of a destination are fields of [`Cluster`] and [`Backend`], those of a route are
//! [`Route::action`] and [`Route::policies`]; those that depend on the client are separate records ([`Policy`],
//! [`Telemetry`]) with a scope and a precedence.
//!
//! *Must not know*: tokio, sockets, TLS libraries, regex engines, front ends. No clock, no lock, no I/O: this crate
//! defines the meaning of fields, and other crates implement it.
//!
//! Start at [`Ir`]; then [`Route`] and [`resolve`](resolve::resolve), which finds the records that apply to a request.

mod action;
mod backend;
pub mod binary;
mod decode;
mod delta;
mod digest;
mod document;
mod encoded;
mod filter;
mod identity;
mod labels;
mod listener;
mod matching;
mod node;
mod origin;
pub mod policy;
mod quarantine;
pub mod resolve;
mod route;
mod secret;
mod table;
mod tables;
mod telemetry;
mod verify;

pub use action::{Action, DirectResponse, PathRewrite, Redirect, Scheme, WeightedBackend};
pub use backend::{
    Active, Algorithm, Backend, Cluster, Counts, Endpoint, HashInput, HealthChecks, Host, HttpVersion, L4, Passive,
    ProbeKind, Target, UpstreamIdentity, UpstreamTls,
};
pub use decode::Rejected;
pub use delta::{Change, Delta};
pub use digest::Digest;
pub use document::{Document, Part, Parts};
pub use encoded::VisitEncoded;
pub use filter::{Filter, FilterSet, Scope};
pub use identity::{
    Attributes, Certificate, Credential, Identity, KeyPair, Lookup, Principal, PrincipalGroup, TrustBundle,
};
pub use labels::{Labels, Locality, TooManyLabels};
pub use listener::{Capture, Listener, ListenerGroup, ListenerKind, ListenerTls, MutualTls, PeerMatch, TlsTermination};
pub use matching::{
    AddrMatch, Conditions, Criteria, Field, HeaderMatch, HostMatch, HostPattern, ImpliedPort, Literal, Matches,
    OneOrMany, Op, PathMatch, Predicate, QueryMatch, RareConditions, Selection, TextMatch, ValueMatch, Wire,
};
pub use node::{
    DebugHeaders, ErrorPages, ForwardedPolicy, HeaderPolicy, Limits, NodeCertificate, NodeSettings, PemPair, RealIp,
    RealIpSource, Resolver, UpstreamPool,
};
pub use origin::{Code, Diagnostic, Diagnostics, Location, Origin, OriginKind, Severity};
pub use policy::{Policy, PolicyKind, PolicySpec, Timeouts};
pub use route::{PathHandling, Rank, Require, Rewrite, Route, TlsRequired, Traffic};
pub use secret::{NoSecretRef, Secret, SecretKey, SecretRef, Secrets, UnresolvedSecret};
pub use table::Table;
pub use tables::{Ir, IrDelta, Record, RecordKind, Row, UnknownTable};
pub use telemetry::{
    Propagation, Sampling, SpanExporter, SpanProtocol, SpanQueue, SpanTag, TagValue, Telemetry, TelemetryScope,
    TraceFormat, TraceInjection,
};
pub use verify::Verified;

/// Identifies a record within its table; unique over all tables of a generation if the front end ensures it.
pub type Id = uuid::Uuid;

#[cfg(test)]
mod tests;
