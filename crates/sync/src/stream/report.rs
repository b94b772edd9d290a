//! [`Report`]: what a data plane says about a generation, and [`NodeInfo`]: about itself.

use std::collections::BTreeMap;

use cardinal_ir::{Id, RecordKind};

use super::wire::{WireNode, WireRejection, WireReport};

/// Rejected records that are reported one by one.
pub const REJECTIONS_MAX: usize = 100;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 500;
/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 255;
/// Plugins of a node that are kept.
const PLUGINS_MAX: usize = 1_000;
/// Labels of a node that are kept.
const LABELS_MAX: usize = 100;

/// A version of the protocol. Versions with one major number understand each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// Changes when older versions would misunderstand a message.
    pub major: u32,
    /// Changes when fields are added, which older versions ignore.
    pub minor: u32,
}

impl ProtocolVersion {
    /// The version of this program.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };

    /// What both sides use, if they understand each other.
    pub fn agreed(self, other: Self) -> Option<Self> {
        (self.major == other.major).then(|| self.min(other))
    }
}

/// What a data plane says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, which it keeps when it restarts.
    pub id: Id,
    /// Version of the program.
    pub version: String,
    /// Name of the machine.
    pub hostname: String,
    /// Names of the plugins that it has.
    pub plugins: Vec<String>,
    /// Labels that its operator gave it.
    pub labels: BTreeMap<String, String>,
}

impl NodeInfo {
    pub(super) fn to_wire(&self) -> WireNode {
        WireNode {
            id: self.id.to_string(),
            user_agent_name: "cardinal".to_owned(),
            user_agent_version: self.version.clone(),
            hostname: self.hostname.clone(),
            plugins: self.plugins.clone(),
            labels: self.labels.clone().into_iter().collect(),
        }
    }

    /// `None` if the id is none. What is too long is cut.
    pub(super) fn of_wire(wire: WireNode) -> Option<Self> {
        let labels = wire.labels.into_iter().take(LABELS_MAX);
        Some(Self {
            id: Id::parse_str(&wire.id).ok()?,
            version: cut(wire.user_agent_version, NAME_BYTES_MAX),
            hostname: cut(wire.hostname, NAME_BYTES_MAX),
            plugins: wire.plugins.into_iter().take(PLUGINS_MAX).map(|name| cut(name, NAME_BYTES_MAX)).collect(),
            labels: labels.map(|(k, v)| (cut(k, NAME_BYTES_MAX), cut(v, NAME_BYTES_MAX))).collect(),
        })
    }
}

/// A record that a data plane does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The record type: `Route`. One that is not among [`RecordKind`] is of another version of the program.
    pub type_name: String,
    /// Its id.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The version of the data plane has no form for it.
    pub is_inexpressible: bool,
}

impl Rejection {
    /// A record that cannot be served.
    pub fn new(kind: RecordKind, id: Id, reason: String) -> Self {
        Self { type_name: kind.type_name().to_owned(), name: id.to_string(), reason, is_inexpressible: false }
    }
}

/// The outcome of the generations that a data plane received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The history that the numbers count in.
    pub history: Id,
    /// The last generation that was complete; 0 if there was none.
    pub number: u64,
    /// Whether it is served, at least in part.
    pub is_applied: bool,
    /// The generation that is served; 0 if there is none.
    pub served: u64,
    /// Records that are not served; the first ones.
    pub rejections: Vec<Rejection>,
    /// How many there are.
    pub rejected: usize,
    /// Why the generation is refused as a whole.
    pub refusal: Option<String>,
}

impl Report {
    /// With records that are not served, of which the first ones are kept.
    #[must_use]
    pub fn with_rejections(mut self, rejections: impl IntoIterator<Item = Rejection>) -> Self {
        for mut rejection in rejections {
            self.rejected += 1;
            if self.rejections.len() < REJECTIONS_MAX {
                rejection.reason = cut(rejection.reason, REASON_BYTES_MAX);
                self.rejections.push(rejection);
            }
        }
        self
    }

    pub(super) fn to_wire(&self) -> WireReport {
        let rejections = self.rejections.iter().map(|rejection| WireRejection {
            type_name: rejection.type_name.clone(),
            name: rejection.name.clone(),
            reason: rejection.reason.clone(),
            inexpressible: rejection.is_inexpressible,
        });
        WireReport {
            history: self.history.as_bytes().to_vec(),
            number: self.number,
            applied: self.is_applied,
            served: self.served,
            rejections: rejections.collect(),
            rejected: self.rejected as u64,
        }
    }

    pub(super) fn of_wire(wire: WireReport, refusal: Option<String>) -> Option<Self> {
        let rejections = wire.rejections.into_iter().take(REJECTIONS_MAX).map(|rejection| Rejection {
            type_name: cut(rejection.type_name, NAME_BYTES_MAX),
            name: cut(rejection.name, NAME_BYTES_MAX),
            reason: cut(rejection.reason, REASON_BYTES_MAX),
            is_inexpressible: rejection.inexpressible,
        });
        Some(Self {
            history: Id::from_slice(&wire.history).ok()?,
            number: wire.number,
            is_applied: wire.applied,
            served: wire.served,
            rejections: rejections.collect(),
            rejected: usize::try_from(wire.rejected).unwrap_or(usize::MAX),
            // Where it is applied, the text says that records are left out.
            refusal: refusal.filter(|_| !wire.applied).map(|text| cut(text, REASON_BYTES_MAX)),
        })
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}
