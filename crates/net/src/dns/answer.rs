//! The result of resolving a name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cardinal_base::Tick;

/// One address of a name. The port of the query is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) ip: IpAddr,
    /// Port of the SRV record; 0 if there is none.
    pub(super) port: u16,
    pub(super) weight: Option<u32>,
    pub(super) priority: u16,
    pub(super) srv_target: Option<Arc<str>>,
    pub(super) shared_by: u32,
}

impl Record {
    /// An address that did not come from an SRV record.
    pub(super) fn plain(ip: IpAddr) -> Self {
        Self { ip, port: 0, weight: None, priority: 0, srv_target: None, shared_by: 1 }
    }
}

/// Records of a name. A single record needs no allocation, for addresses and the hosts file.
#[derive(Clone, Debug)]
pub(super) enum Records {
    One(Record),
    Many(Arc<[Record]>),
}

impl Records {
    pub(super) fn as_slice(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

/// One address to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The address and port.
    pub addr: SocketAddr,
    /// Weight of the SRV record that contained the target.
    pub weight: Option<u32>,
    /// Priority of that record. An answer only contains the records with the lowest priority.
    pub priority: u16,
    /// Target of that record, without a trailing dot.
    pub srv_target: Option<&'a Arc<str>>,
    /// Number of addresses that share the weight: those of the target. At least 1.
    pub shared_by: u32,
}

/// The addresses of a name for one port. Cheap to clone. Never empty.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) records: Records,
    pub(super) port: u16,
    pub(super) expires: Tick,
}

impl Answer {
    /// The addresses, in the order in which they were received.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = Resolved<'_>> {
        self.records.as_slice().iter().map(|record| Resolved {
            addr: SocketAddr::new(record.ip, if record.port == 0 { self.port } else { record.port }),
            weight: record.weight,
            priority: record.priority,
            srv_target: record.srv_target.as_ref(),
            shared_by: record.shared_by,
        })
    }

    /// When the answer expires, on the clock of [`Dns`](super::Dns).
    pub fn expires(&self) -> Tick {
        self.expires
    }

    /// Whether both contain the same addresses in the same order with the same weights.
    pub fn same_addresses(&self, other: &Self) -> bool {
        self.port == other.port && self.records == other.records
    }
}
