//! Which priority an endpoint has for a node, by where both are.

use cardinal_ir::policy::{Unlisted, ZonePreference};
use cardinal_ir::{Cluster, Endpoint, Labels, Locality};

/// Where a node is, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePlace {
    /// Where it is.
    pub locality: Locality,
    /// What it is.
    pub labels: Labels,
}

/// The order in which endpoints are used, and the part of the requests within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Preference {
    /// By zone: 0 is the node's own.
    pub(crate) zone: u32,
    /// The endpoint's own priority.
    pub(crate) priority: u32,
    /// Which affinity it belongs to.
    pub(crate) affinity: u32,
    /// The weight of that.
    pub(crate) weight: u32,
}

impl Preference {
    /// `None` for an endpoint that gets no requests from this node.
    pub(crate) fn of(endpoint: &Endpoint, cluster: &Cluster, place: &NodePlace) -> Option<Self> {
        let plain = Self { zone: 0, priority: endpoint.priority, affinity: 0, weight: 1 };
        let Some(zones) = cluster.locality.as_ref().and_then(|policy| policy.zones.as_ref()) else {
            return Some(plain);
        };
        let (own, other) = (&*place.locality.zone, &*endpoint.locality.zone);
        if own.is_empty() || own == other {
            let (affinity, weight) = affinity(endpoint, zones, place);
            return Some(Self { affinity, weight, ..plain });
        }
        let applies = zones.failover.iter().position(|rule| {
            (rule.from.is_empty() || rule.from.iter().any(|zone| **zone == *own)) && rule.to.contains(other)
        });
        let zone = match (applies, zones.unlisted) {
            (Some(rule), _) => rule + 1,
            (None, Unlisted::Last) => zones.failover.len() + 1,
            (None, Unlisted::Unused) => return None,
        };
        Some(Self { zone: u32::try_from(zone).unwrap_or(u32::MAX), ..plain })
    }
}

/// The affinity of a local endpoint, and its weight.
fn affinity(endpoint: &Endpoint, zones: &ZonePreference, place: &NodePlace) -> (u32, u32) {
    for (affinity, number) in zones.affinity.iter().zip(0..) {
        let own = place.labels.get(&affinity.label);
        if own.is_some() && own == endpoint.labels.get(&affinity.label) {
            return (number, affinity.weight);
        }
    }
    (u32::try_from(zones.affinity.len()).unwrap_or(u32::MAX), zones.rest_weight)
}

#[cfg(test)]
mod tests {
    use cardinal_ir::policy::{Affinity, FailoverRule, LocalityPolicy, ZoneSet};

    use super::*;

    fn place(zone: &str) -> NodePlace {
        NodePlace {
            locality: Locality { zone: zone.into(), ..Locality::default() },
            labels: Labels::new([("node", "n1"), ("rack", "r1")]).unwrap(),
        }
    }

    fn preference(zones: Option<ZonePreference>, at: &str, zone: &str, labels: &[(&str, &str)]) -> Option<[u32; 4]> {
        let policy = LocalityPolicy { zones, ..LocalityPolicy::default() };
        let cluster = Cluster { locality: Some(Box::new(policy)), ..Cluster::default() };
        let endpoint = Endpoint {
            priority: 7,
            locality: place(zone).locality,
            labels: Labels::new(labels.iter().copied()).unwrap(),
            ..Endpoint::default()
        };
        Preference::of(&endpoint, &cluster, &place(at)).map(|p| [p.zone, p.priority, p.affinity, p.weight])
    }

    #[test]
    fn without_a_preference_for_zones_only_the_priority_counts() {
        assert_eq!(preference(None, "a", "b", &[("node", "n1")]), Some([0, 7, 0, 1]));
    }

    #[test]
    fn local_endpoints_are_weighted_by_the_first_label_that_they_share_with_the_node() {
        let affinity = [("node", 90), ("rack", 9)].map(|(label, weight)| Affinity { label: label.into(), weight });
        let zones = || Some(ZonePreference { affinity: affinity.to_vec(), ..ZonePreference::default() });
        for (labels, expect) in [
            (&[("node", "n1"), ("rack", "r1")][..], [0, 7, 0, 90]),
            (&[("node", "n2"), ("rack", "r1")], [0, 7, 1, 9]),
            (&[("node", "n2")], [0, 7, 2, 1]),
            (&[], [0, 7, 2, 1]),
        ] {
            assert_eq!(preference(zones(), "a", "a", labels), Some(expect), "{labels:?}");
        }
        assert_eq!(preference(zones(), "a", "b", &[("node", "n1")]), Some([1, 7, 0, 1]), "remote");
        assert_eq!(
            preference(zones(), "", "b", &[("node", "n1")]),
            Some([0, 7, 0, 90]),
            "the node's zone is not known"
        );
    }

    #[test]
    fn the_first_rule_that_lists_a_zone_counts() {
        let rule = |from: &[&str], to| FailoverRule { from: from.iter().map(|z| (*z).into()).collect(), to };
        let only = |zone: &str| ZoneSet::Only(vec![zone.into()]);
        let failover = vec![
            rule(&["b"], only("c")),
            rule(&["a"], only("b")),
            rule(&["a"], ZoneSet::AnyExcept(vec!["d".into()])),
            rule(&[], ZoneSet::None),
        ];
        let zones =
            |unlisted| Some(ZonePreference { failover: failover.clone(), unlisted, ..ZonePreference::default() });
        let zone_of = |at, zone| preference(zones(Unlisted::Unused), at, zone, &[]).map(|[level, ..]| level);
        // A rule for other zones has its number all the same.
        assert_eq!(["a", "b", "c", "d"].map(|zone| zone_of("a", zone)), [Some(0), Some(2), Some(3), None]);
        assert_eq!(["a", "b", "c", "d"].map(|zone| zone_of("b", zone)), [None, Some(0), Some(1), None]);
        assert_eq!(preference(zones(Unlisted::Last), "a", "d", &[]), Some([5, 7, 0, 1]));
    }
}
