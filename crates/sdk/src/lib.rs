//! The interface for plugins: the filter trait, the context of each phase, the services of the node, and the definition
//! of a plugin.
//!
//! A plugin is a folder that exports one [`PluginDef`]. Filters are *sync-first*: a phase returns immediately, unless
//! it has to wait, in which case it boxes a future. Phases are types: a context only has the operations that its phase
//! allows. Parameters with the effect of a policy may be lowered to it ([`PluginDef::lower`]); then there is no filter.
//! Policies of the engine are filters, too, and share [`queue`], [`rate`] and [`trace`] with plugins.
//!
//! *Must not know*: the engine, front ends, other plugins.
//!
//! Start at [`Filter`], then [`HeadCx`] and [`Services`].

mod certificate;
mod def;
mod directory;
mod exchange;
mod filter;
mod filter_step;
pub mod log;
pub mod lua;
pub mod network;
mod phase;
pub mod queue;
pub mod rate;
pub mod redis;
mod reply;
mod services;
mod status;
pub mod testing;
pub mod trace;
mod upstream_phases;

pub use certificate::{
    CertificateAnswer, CertificateCx, CertificateDecision, CertificateError, CertificateStep, Certificates,
    ServerCertificate, TlsAlert,
};
pub use def::{
    Build, BuildCx, BuildError, EntityDef, FailureMode, HTTP_PROTOCOLS, Lower, PluginDef, Prepare, Prepared, Scopes,
    Seal,
};
pub use directory::{CredentialEntry, Directory, PrincipalEntry};
pub use exchange::{
    BackendInfo, Bytes as ByteCounts, Captures, Client, CredentialId, CredentialRef, Exchange, Identity, Original,
    RequestId, RouteInfo, Slots, Source, State, Timing, TlsInfo, Try, TryState,
};
pub use filter::{Admit, Filter, Flow, Phases, Verdict};
pub use filter_step::{FilterDecision, FilterStep};
pub use phase::{BodyCx, BodyMode, Chunk, ConnectCx, HeadCx, LogCx, ResponseCx, UpstreamRequest};
pub use reply::{Reply, ReplyBody};
pub use services::{
    CallError, Collector, ConnectionCounts, GrpcCall, GrpcReply, HttpCall, HttpCaller, HttpReply, NodeView, Services,
    Shared, TargetHealth, Tenants,
};
pub use status::{NodeStatus, Readiness, StatusForm};
pub use upstream_phases::{AttemptCx, ChunkAccess, RequestBodyCx};
