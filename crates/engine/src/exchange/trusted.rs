//! Which peers are believed what they say of clients.

use std::net::IpAddr;

use cardinal_ir::RealIp;

/// Whether a peer is believed.
pub(crate) fn is_trusted(policy: &RealIp, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    policy.trusted.iter().any(|net| net.contains(&ip))
}
