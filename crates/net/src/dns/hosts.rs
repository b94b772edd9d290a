//! The hosts file.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of a hosts file, lower-case, each with its first address of either family (as in Kong).
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<Box<str>, Families>);

#[derive(Clone, Copy, Debug, Default)]
struct Families {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// Maximum number of names; a longer hosts file is truncated.
const NAMES_MAX: usize = 100_000;

impl Hosts {
    /// Reads the text of a hosts file. Lines without an address are skipped; `#` and `;` begin a comment.
    pub(super) fn parse(text: &str) -> Self {
        let mut names: HashMap<Box<str>, Families> = HashMap::new();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(ip) = words.next().and_then(address) else { continue };
            for name in words {
                if names.len() >= NAMES_MAX {
                    tracing::warn!(names_max = NAMES_MAX, "the hosts file is too long; the rest of it is ignored");
                    return Self(names);
                }
                let families = names.entry(name.to_ascii_lowercase().into()).or_default();
                match ip {
                    IpAddr::V4(ip) => families.v4 = families.v4.or(Some(ip)),
                    IpAddr::V6(ip) => families.v6 = families.v6.or(Some(ip)),
                }
            }
        }
        Self(names)
    }

    /// The address of a lower-case name, in the first of these families for which there is one.
    pub(super) fn get(&self, name: &str, families: &[Family]) -> Option<IpAddr> {
        let known = match self.0.get(name) {
            Some(known) => *known,
            // RFC 6761: this name is the loopback interface, even if the file does not list it.
            None if name == "localhost" => Families { v4: Some(Ipv4Addr::LOCALHOST), v6: Some(Ipv6Addr::LOCALHOST) },
            None => return None,
        };
        families.iter().find_map(|family| match family {
            Family::V4 => known.v4.map(IpAddr::V4),
            Family::V6 => known.v6.map(IpAddr::V6),
        })
    }
}

/// A requested address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// An address, in brackets or not, without a zone.
fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n127.0.0.1 localhost\n\n10.0.0.1\tDB.example db # first\n10.0.0.2 db\n\
        [fe80::1] db six\nnonsense x\n10.0.0.3\n  10.0.0.4 ; other\nfe80::2%eth0 zoned\n";

    fn check(name: &str, families: &[Family], expect: Option<&str>) {
        assert_eq!(Hosts::parse(FILE).get(name, families), expect.map(|ip| ip.parse().unwrap()), "{name}");
    }

    #[test]
    fn the_first_address_of_each_family_wins() {
        check("db.example", &[Family::V4], Some("10.0.0.1"));
        check("db", &[Family::V4, Family::V6], Some("10.0.0.1"));
        check("db", &[Family::V6, Family::V4], Some("fe80::1"));
        check("six", &[Family::V4, Family::V6], Some("fe80::1"));
        check("six", &[Family::V4], None);
    }

    #[test]
    fn what_is_no_entry_is_skipped() {
        for name in ["x", "other", "zoned", "#", "first", "10.0.0.3", ""] {
            check(name, &[Family::V4, Family::V6], None);
        }
    }

    #[test]
    fn localhost_is_loopback_even_without_a_file() {
        check("localhost", &[Family::V4, Family::V6], Some("127.0.0.1"));
        assert_eq!(Hosts::default().get("localhost", &[Family::V6]), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(Hosts::default().get("localhost", &[]), None);
    }
}
