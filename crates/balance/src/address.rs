//! What a member's name resolves to, as the resolver hands it over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One address of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedAddr {
    /// Where to connect.
    pub addr: SocketAddr,
    /// Weight of the SRV record that led here; the member's weight when absent. 0 counts as 1, as in Kong.
    pub weight: Option<u32>,
    /// Priority of the SRV record. Only the lowest priority of an answer is used.
    pub priority: u16,
    /// Target of the SRV record.
    pub srv_target: Option<Arc<str>>,
    /// How many addresses share this weight: the number of addresses of the SRV record's target. At least 1.
    pub shared_by: u32,
}

impl ResolvedAddr {
    /// An address from an A or AAAA record, a hosts file or a literal.
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, weight: None, priority: 0, srv_target: None, shared_by: 1 }
    }

    /// The record type that APIs show.
    pub(crate) fn source(&self) -> &'static str {
        match (&self.srv_target, self.addr.ip()) {
            (Some(_), _) => "SRV",
            (None, IpAddr::V4(_)) => "A",
            (None, IpAddr::V6(_)) => "AAAA",
        }
    }
}

/// A member's name did not resolve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shown}")]
pub struct NameFailure {
    /// The text that APIs show as the member's `dns`.
    pub shown: Box<str>,
    /// The reason for logs.
    pub reason: Box<str>,
}

/// The addresses to use of an answer: the lowest priority only, each address once, in address order.
///
/// Two SRV records for one address and port add up.
pub(crate) fn usable(mut answer: Vec<ResolvedAddr>) -> Vec<ResolvedAddr> {
    let Some(best) = answer.iter().map(|a| a.priority).min() else { return answer };
    answer.retain(|a| a.priority == best);
    answer.sort_by_key(|a| a.addr);
    answer.dedup_by(|later, kept| {
        let same = later.addr == kept.addr;
        if same && let (Some(a), Some(b)) = (kept.weight, later.weight) {
            kept.weight = Some(a.max(1).saturating_add(b.max(1)));
        }
        same
    });
    answer
}

/// The address as Kong writes it: IPv6 in brackets.
pub(crate) fn ip_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
