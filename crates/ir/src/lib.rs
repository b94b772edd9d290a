//! The intermediate representation: what every front end lowers to and the engine plans from.
//!
//! Flat tables of plain values keyed by id; children name their parents, so one edit is one record. The IR travels
//! and is stored, so everything here derives serde and keeps its field names.
//!
//! *Must not know*: tokio, sockets, TLS libraries, regex engines, front ends. No clock, no lock, no I/O: what a field
//! means is written here, who executes it is the engine's business.
//!
//! Start at [`Ir`]; then [`Route`] and [`resolve`](resolve::resolve), which says what a request through a route meets.

mod backend;
mod changed;
mod diff;
mod document;
mod filter;
mod identity;
mod matching;
mod node;
mod origin;
pub mod resolve;
mod route;
mod share;
mod table;
mod verify;

pub use backend::{
    Active, Algorithm, Backend, Counts, Endpoint, Endpoints, HashInput, HealthChecks, Host, HttpVersion, L4, Passive,
    ProbeKind, Target, Timeouts, UpstreamTls,
};
pub use changed::Changed;
pub use diff::{Change, Delta};
pub use document::{Document, Part, Parts};
pub use filter::{Filter, FilterSet, Scope};
pub use identity::{Attributes, Certificate, Credential, KeyPair, Principal, PrincipalGroup, Trust};
pub use matching::{
    AddrMatch, Conditions, Criteria, Few, Field, HeaderMatch, HostMatch, HostPattern, ImpliedPort, Literal, Matches,
    Op, PathMatch, Predicate, RareConditions, Selection, TextMatch, Wire,
};
pub use node::{
    ErrorPages, ForwardedPolicy, HeaderPolicy, Limits, Listener, ListenerKind, Node, RealIp, RealIpSource, Resolver,
    UpstreamPool,
};
pub use origin::{Code, Diagnostic, Location, Noun, Origin, Severity};
pub use route::{PathHandling, Rank, Require, Rewrite, Route, Traffic};
pub use share::Record;
pub use table::Table;
pub use verify::Verified;

use serde::{Deserialize, Serialize};

/// Identifies a record within its table; unique over the tables of one generation where the front end makes it so.
pub type Id = uuid::Uuid;

/// One generation's worth of configuration. Cloning shares the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ir {
    /// What holds for the node as a whole: limits, header policy, trusted peers.
    pub node: Node,
    /// Sockets to accept traffic on.
    pub listeners: Table<Listener>,
    /// What to match and what to do with a match.
    pub routes: Table<Route>,
    /// Filters and where they apply.
    pub filter_sets: Table<FilterSet>,
    /// Where requests go.
    pub backends: Table<Backend>,
    /// Balanced groups of endpoints.
    pub endpoints: Table<Endpoints>,
    /// Members of the groups.
    pub endpoint: Table<Endpoint>,
    /// Server and client certificates.
    pub certificates: Table<Certificate>,
    /// Certificate authorities.
    pub trusts: Table<Trust>,
    /// Who may call: consumers, workloads.
    pub principals: Table<Principal>,
    /// Named groups of principals that filter sets may be scoped to.
    pub groups: Table<PrincipalGroup>,
    /// What a principal proves itself with, and what is attached to it.
    pub credentials: Table<Credential>,
}
