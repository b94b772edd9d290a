//! Sets of addresses: sorted, disjoint ranges, searched by bisection.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// A set of addresses. IPv4-mapped IPv6 addresses are treated as IPv4 addresses.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// The set of all addresses in these networks.
    pub(super) fn of(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut ranges = Self::default();
        nets.into_iter().for_each(|net| ranges.add(net));
        ranges.v4 = merged(ranges.v4, |end| end.checked_add(1));
        ranges.v6 = merged(ranges.v6, |end| end.checked_add(1));
        ranges
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

    /// A network that includes the range of mapped addresses includes the IPv4 addresses, too.
    fn add_v6(&mut self, first: Ipv6Addr, last: Ipv6Addr) {
        let (first, last) = (u128::from(first), u128::from(last));
        if first <= 0xffff_0000_0000 && last >= 0xffff_ffff_ffff {
            self.v4.push((0, u32::MAX));
        }
        self.v6.push((first, last));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
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

/// Sorts the ranges, and joins those that overlap or touch.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ranges_are_what_a_scan_of_the_networks_finds() {
        let texts = [
            "10.0.0.0/30",
            "10.0.0.4/32",
            "10.0.0.8/29",
            "10.0.0.12/32",
            "255.255.255.255/32",
            "0.0.0.0/32",
            "fe80::/127",
        ];
        let nets: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let ranges = Ranges::of(nets.iter().copied());
        let v4 = (0..40).map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000_u32 - 10 + n)));
        let edges = [0_u32, 1, u32::MAX - 1, u32::MAX].map(|n| IpAddr::V4(Ipv4Addr::from(n)));
        let v6 = (0..4).map(|n| IpAddr::V6(Ipv6Addr::from(0xfe80_u128 << 112 | n)));
        for address in v4.chain(edges).chain(v6) {
            assert_eq!(ranges.contains(address), nets.iter().any(|net| net.contains(&address)), "{address}");
        }
    }
}
