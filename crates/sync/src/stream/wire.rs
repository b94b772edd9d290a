//! The messages, as protobuf. Field numbers below 1000 are those of the delta protocol of xDS
//! (`envoy.service.discovery.v3.DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`); the others are our own. A reader ignores
//! fields that it does not know.

#![allow(missing_docs, reason = "prost's derive adds functions without documentation")]

use std::collections::HashMap;

use prost::Message;

/// Begins the type URL of each record type, and of secrets.
pub const TYPE_PREFIX: &str = "type.cardinal.dev/ir.v1.";

/// The type of secrets, without the prefix. Their names are the texts of references.
pub const SECRET_TYPE: &str = "Secret";

/// Bytes of records after which a part of a generation is complete.
pub const PART_BYTES: usize = 1 << 20;

/// Milliseconds without a message after which the other side counts as gone.
pub(super) const SILENCE_MS_MAX: u64 = 30_000;

/// Most bytes of a message that are read. A message is larger than [`PART_BYTES`] only if a single record is.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// From a data plane.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The data plane; in the first message.
    #[prost(message, optional, tag = "1")]
    pub node: Option<WireNode>,
    /// Of the response that is acknowledged; empty if none is.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Why the generation is refused (NACK), or what was left out of it.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<WireStatus>,
    /// The subscription; in the first message, and where everything is to be compared anew.
    #[prost(message, optional, tag = "1001")]
    pub hello: Option<Hello>,
    /// Versions of records and secrets that the data plane has.
    #[prost(message, optional, tag = "1002")]
    pub versions: Option<HeldVersions>,
    /// The outcome of the last generation.
    #[prost(message, optional, tag = "1003")]
    pub report: Option<WireReport>,
}

/// From a control plane.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// New and changed records, all of one type.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// The type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be repeated by the acknowledgement.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names of records that are gone, of the same type.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// The generation that this is a part of; without it, the message says nothing about records.
    #[prost(message, optional, tag = "1001")]
    pub part: Option<Part>,
    /// The control plane does not know the generation of the data plane, and asks for the versions of its records.
    #[prost(bool, tag = "1002")]
    pub versions_wanted: bool,
    /// Number of the newest generation of the control plane.
    #[prost(uint64, tag = "1003")]
    pub newest: u64,
    /// What operators said about targets.
    #[prost(message, repeated, tag = "1004")]
    pub health: Vec<WireTargetHealth>,
}

/// The health of a target.
#[derive(Clone, PartialEq, Message)]
pub struct WireTargetHealth {
    #[prost(string, tag = "1")]
    pub upstream: String,
    /// `host:port`.
    #[prost(string, tag = "2")]
    pub target: String,
    /// One of its addresses; all if it is empty.
    #[prost(string, tag = "3")]
    pub address: String,
    #[prost(bool, tag = "4")]
    pub healthy: bool,
}

/// A record.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// Its hash, 16 bytes in hexadecimal.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its binary form.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<AnyValue>,
    /// Its id.
    #[prost(string, tag = "3")]
    pub name: String,
    /// It restricts access: without it, more would be permitted than is configured.
    #[prost(bool, tag = "1001")]
    pub restricts: bool,
}

/// `google.protobuf.Any`. An empty type is that of the response. The value may be a secret and is not shown.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct AnyValue {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl std::fmt::Debug for AnyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnyValue({} bytes)", self.value.len())
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct WireStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Which generation a response belongs to.
#[derive(Clone, PartialEq, Message)]
pub struct Part {
    #[prost(message, optional, tag = "1")]
    pub generation: Option<WireGeneration>,
    /// From 0.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The generation is complete.
    #[prost(bool, tag = "3")]
    pub last: bool,
    /// The parts are the whole generation, not changes of what the data plane has.
    #[prost(bool, tag = "4")]
    pub whole: bool,
}

/// A generation.
#[derive(Clone, PartialEq, Message)]
pub struct WireGeneration {
    /// The history that its number counts in, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub history: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Fingerprint of its records, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub records: Vec<u8>,
    /// Fingerprint of its secrets, 32 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub secrets: Vec<u8>,
}

/// A subscription to all records.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    #[prost(uint32, tag = "1")]
    pub protocol_major: u32,
    #[prost(uint32, tag = "2")]
    pub protocol_minor: u32,
    /// Subscribes to secrets, too.
    #[prost(bool, tag = "3")]
    pub secrets: bool,
    /// What the data plane has; nothing if it is missing.
    #[prost(message, optional, tag = "4")]
    pub held: Option<WireGeneration>,
    /// What it has differs from what the control plane knows by that fingerprint: versions are to be compared.
    #[prost(bool, tag = "5")]
    pub compare: bool,
}

/// A part of the list of what a data plane has.
#[derive(Clone, PartialEq, Message)]
pub struct HeldVersions {
    /// The type, without the prefix.
    #[prost(string, tag = "1")]
    pub type_name: String,
    /// Ids and versions, 16 bytes each. Secrets have no versions: 16 bytes for each.
    #[prost(bytes = "vec", tag = "2")]
    pub packed: Vec<u8>,
    /// The list is complete.
    #[prost(bool, tag = "3")]
    pub last: bool,
}

/// The outcome of a generation.
#[derive(Clone, PartialEq, Message)]
pub struct WireReport {
    #[prost(bytes = "vec", tag = "1")]
    pub history: Vec<u8>,
    /// Number of the generation; 0 if there is none.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    #[prost(bool, tag = "3")]
    pub applied: bool,
    /// Number of the generation that is served.
    #[prost(uint64, tag = "4")]
    pub served: u64,
    #[prost(message, repeated, tag = "5")]
    pub rejections: Vec<WireRejection>,
    /// How many there are; the list is limited.
    #[prost(uint64, tag = "6")]
    pub rejected: u64,
}

/// A record that is not served.
#[derive(Clone, PartialEq, Message)]
pub struct WireRejection {
    #[prost(string, tag = "1")]
    pub type_name: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub reason: String,
    /// This version of the program has no form for it.
    #[prost(bool, tag = "4")]
    pub inexpressible: bool,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, Message)]
pub struct WireNode {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    #[prost(string, tag = "1001")]
    pub hostname: String,
    #[prost(string, repeated, tag = "1002")]
    pub plugins: Vec<String>,
    #[prost(map = "string, string", tag = "1003")]
    pub labels: HashMap<String, String>,
}

/// The type URL of a type name.
pub(super) fn type_url(name: &str) -> String {
    format!("{TYPE_PREFIX}{name}")
}
