//! [`Event`]: what changed in a group, for logs.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cardinal_ir::Id;

use crate::health::Signal;
use crate::outlier::Detector;

/// What changed, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address changed its verdict.
    Address {
        /// The member.
        endpoint: Id,
        /// The member's name.
        host: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// The new verdict.
        healthy: bool,
        /// What changed it: `traffic`, `probe` or `manual`.
        cause: &'static str,
        /// What was observed last, and how often; `None` for `manual`.
        observed: Option<Observed>,
    },
    /// A member's name does not resolve, for another reason than before, or resolves again.
    Name {
        /// The member's name.
        host: Arc<str>,
        /// The member's port.
        port: u16,
        /// Why it does not resolve.
        failure: Option<Box<str>>,
    },
    /// The group as a whole began or ceased to serve.
    Group {
        /// Whether it serves.
        healthy: bool,
    },
    /// A priority of the group uses all its addresses, available or not, or does so no longer.
    Panic {
        /// Whether it does.
        panics: bool,
    },
    /// An address was ejected.
    Ejected {
        /// The member.
        endpoint: Id,
        /// The member's name.
        host: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// What caused it.
        detector: Detector,
        /// How long it lasts at least.
        lasts: Duration,
        /// What happened last, from the caller.
        detail: Option<Box<str>>,
    },
    /// An ejected address returned.
    Returned {
        /// The member.
        endpoint: Id,
        /// The member's name.
        host: Arc<str>,
        /// The address.
        address: SocketAddr,
    },
}

/// What changed a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it was, the last time.
    pub signal: Signal,
    /// The status, where there was one.
    pub status: Option<u16>,
    /// How often it was seen.
    pub count: u8,
    /// More about the last time, from the caller.
    pub detail: Option<Box<str>>,
}

/// Bytes of [`Observed::detail`].
const DETAIL_MAX: usize = 256;

impl Observed {
    pub(crate) fn new(signal: Signal, status: Option<u16>, count: u8, detail: Option<&dyn fmt::Display>) -> Self {
        Self { signal, status, count, detail: detail.map(shortened) }
    }
}

/// The beginning of a text.
pub(crate) fn shortened(detail: &dyn fmt::Display) -> Box<str> {
    detail.to_string().chars().take(DETAIL_MAX).collect::<String>().into()
}
