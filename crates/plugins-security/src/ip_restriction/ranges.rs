//! Sets of addresses: sorted, disjoint ranges, searched by bisection.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// A set of addresses. IPv4 addresses that are mapped into IPv6 are the IPv4 addresses.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// The set of these addresses and networks; the first text that is neither.
    pub(super) fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        let mut ranges = Self::default();
        for text in texts.iter().map(AsRef::as_ref) {
            let net = match text.parse::<IpAddr>() {
                Ok(address) => IpNet::from(address),
                Err(_) => text.parse().map_err(|_| format!("invalid ip or cidr range: '{text}'"))?,
            };
            ranges.add(net);
        }
        ranges.v4 = merged(ranges.v4, |end| end.checked_add(1));
        ranges.v6 = merged(ranges.v6, |end| end.checked_add(1));
        Ok(ranges)
    }

    fn add(&mut self, net: IpNet) {
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => self.v4.push((first.into(), last.into())),
            (IpAddr::V6(first), IpAddr::V6(last)) => match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                (Some(first), Some(last)) => self.v4.push((first.into(), last.into())),
                _ => self.add_v6(first, last),
            },
            _ => {}
        }
    }

    /// A network so wide that it has the mapped addresses, too, has the IPv4 addresses.
    fn add_v6(&mut self, first: Ipv6Addr, last: Ipv6Addr) {
        let (first, last) = (u128::from(first), u128::from(last));
        if first <= 0xffff_0000_0000 && last >= 0xffff_ffff_ffff {
            self.v4.push((0, u32::MAX));
        }
        self.v6.push((first, last));
    }

    /// Whether the address is in the set.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.into()),
            IpAddr::V6(address) => holds(&self.v6, address.into()),
        }
    }
}

fn holds<N: Ord + Copy>(ranges: &[(N, N)], address: N) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// Sorts, and joins ranges that overlap or touch.
fn merged<N: Ord + Copy>(mut ranges: Vec<(N, N)>, next: impl Fn(N) -> Option<N>) -> Vec<(N, N)> {
    ranges.sort_unstable();
    let mut out: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out
}
