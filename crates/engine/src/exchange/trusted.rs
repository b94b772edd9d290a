//! Trusted proxies: peers whose forwarding headers are accepted.

use std::net::IpAddr;

use cardinal_ir::RealIp;

/// Whether a peer is a trusted proxy.
pub(crate) fn is_trusted(policy: &RealIp, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    policy.trusted.iter().any(|net| net.contains(&ip))
}
