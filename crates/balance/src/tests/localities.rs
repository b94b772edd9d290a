//! Priorities and localities.

use cardinal_base::Rng;
use cardinal_ir::policy::{Affinity, FailoverRule, LocalityPolicy, Unlisted, ZonePreference, ZoneSet};
use cardinal_ir::{Labels, Locality};

use super::*;
use crate::{Event, NodePlace, Outcome};

fn with(policy: LocalityPolicy, algorithm: Algorithm) -> Cluster {
    let mut spec = Cluster { locality: Some(Box::new(policy)), ..checked(algorithm) };
    spec.health.active = Active::default();
    spec
}

fn at(zone: &str, labels: &[(&str, &str)]) -> Arc<NodePlace> {
    let locality = Locality { zone: zone.into(), ..Locality::default() };
    Arc::new(NodePlace { locality, labels: Labels::new(labels.iter().copied()).unwrap() })
}

/// A member of this priority, zone and labels.
fn placed(n: u128, priority: u32, zone: &str, labels: &[(&str, &str)]) -> Member {
    let mut member = member(n, &format!("10.0.0.{n}"), 80, 10);
    let endpoint = Arc::make_mut(&mut member.endpoint);
    endpoint.priority = priority;
    endpoint.locality.zone = zone.into();
    endpoint.labels = Labels::new(labels.iter().copied()).unwrap();
    member
}

/// Makes members unavailable by a failed connection each.
fn fail(group: &Arc<Group>, members: &[u128]) {
    for member in members {
        group.set_health(id(*member), None, false, Tick(1)).unwrap();
    }
}

/// Which percentage of picks each member gets.
fn percents(group: &Arc<Group>, members: usize) -> Vec<u32> {
    let counts = tally(&mut picker(group), members, 20_000);
    counts.iter().map(|count| (*count as f64 / 200.0).round() as u32).collect()
}

#[test]
fn priorities_follow_each_other_without_a_policy() {
    let members = vec![placed(1, 0, "", &[]), placed(2, 7, "", &[]), placed(3, 9, "", &[])];
    let group = group(checked(Algorithm::RoundRobin), members);
    assert_eq!(percents(&group, 3), [100, 0, 0]);
    fail(&group, &[1]);
    assert_eq!(percents(&group, 3), [0, 100, 0]);
    fail(&group, &[2]);
    assert_eq!(percents(&group, 3), [0, 0, 100]);
    fail(&group, &[3]);
    assert_eq!(pick(&mut picker(&group), &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    assert_eq!(group.status().members.iter().map(|m| m.priority).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
}

#[test]
fn what_a_priority_cannot_take_goes_to_the_next() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::Latency] {
        let members = (1..=4).map(|n| placed(n, 0, "", &[])).chain((5..=6).map(|n| placed(n, 1, "", &[]))).collect();
        let group = group(with(LocalityPolicy::default(), algorithm.clone()), members);
        assert_eq!(percents(&group, 6)[4..], [0, 0]);
        fail(&group, &[1]);
        assert_eq!(percents(&group, 6)[4..], [0, 0], "75 percent are enough");
        fail(&group, &[2]);
        let shares = percents(&group, 6);
        assert_eq!(shares[..2], [0, 0]);
        // 50 percent times 1.4 are 70; the rest is shared.
        assert!((69..=71).contains(&(shares[2] + shares[3])), "{algorithm:?} {shares:?}");
        if algorithm != Algorithm::Latency {
            assert!(shares[4].abs_diff(15) <= 1 && shares[5].abs_diff(15) <= 1, "{algorithm:?} {shares:?}");
        }
        group.set_health(id(1), None, true, Tick(2)).unwrap();
        assert_eq!(percents(&group, 6)[4..], [0, 0]);
    }
}

#[test]
fn a_group_that_panics_uses_all_its_addresses() {
    let group = group(with(LocalityPolicy::default(), Algorithm::RoundRobin), members(&[1, 1, 1, 1]));
    fail(&group, &[1, 2]);
    assert_eq!(percents(&group, 4), [0, 0, 50, 50]);
    group.take_events();
    fail(&group, &[3]);
    assert_eq!(percents(&group, 4), [25, 25, 25, 25]);
    assert!(group.status().panics && group.status().serves);
    fail(&group, &[4]);
    assert_eq!(percents(&group, 4), [25, 25, 25, 25]);
    group.set_health(id(1), None, true, Tick(2)).unwrap();
    group.set_health(id(2), None, true, Tick(2)).unwrap();
    assert_eq!(percents(&group, 4), [50, 50, 0, 0]);
    let of_panics = |event: &Event| if let Event::Panic { panics } = event { Some(*panics) } else { None };
    assert_eq!(group.take_events().iter().filter_map(of_panics).collect::<Vec<_>>(), [true, false]);
    let never = LocalityPolicy { panic_percent: 0, ..LocalityPolicy::default() };
    group.update(Arc::new(with(never, Algorithm::RoundRobin)), members(&[1, 1, 1, 1]), Tick(3));
    fail(&group, &[1, 2]);
    assert_eq!(pick(&mut picker(&group), &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
}

fn zones(preference: ZonePreference) -> LocalityPolicy {
    LocalityPolicy { panic_percent: 0, zones: Some(preference), ..LocalityPolicy::default() }
}

#[test]
fn a_node_prefers_its_own_zone_wherever_it_is() {
    let policy = zones(ZonePreference::default());
    let members = || (1..=3).zip(["a", "b", "c"]).map(|(n, zone)| placed(n, 0, zone, &[])).collect::<Vec<_>>();
    let group = group(with(policy, Algorithm::RoundRobin), members());
    let third = |shares: Vec<u32>| shares.iter().all(|share| share.abs_diff(33) <= 1);
    assert!(third(percents(&group, 3)), "the node's zone is not known");
    for (zone, expect, after) in
        [("a", [100, 0, 0], [0, 50, 50]), ("c", [0, 0, 100], [50, 50, 0]), ("b", [0, 100, 0], [50, 0, 50])]
    {
        group.set_place(&at(zone, &[]), Tick(1));
        assert_eq!(percents(&group, 3), expect);
        let local = expect.iter().position(|share| *share > 0).unwrap() as u128 + 1;
        fail(&group, &[local]);
        assert_eq!(percents(&group, 3), after);
        group.set_health(id(local), None, true, Tick(1)).unwrap();
    }
}

#[test]
fn failover_goes_by_rules_and_drops_what_none_lists() {
    let to = |zone: &str| FailoverRule { to: ZoneSet::Only(vec![zone.into()]), ..FailoverRule::default() };
    let preference =
        ZonePreference { failover: vec![to("c"), to("b")], unlisted: Unlisted::Unused, ..ZonePreference::default() };
    let members = (1..=4).zip(["a", "b", "c", "d"]).map(|(n, zone)| placed(n, 0, zone, &[])).collect();
    let group = group(with(zones(preference), Algorithm::RoundRobin), members);
    group.set_place(&at("a", &[]), Tick(1));
    for (down, expect) in [(None, [100, 0, 0, 0]), (Some(1), [0, 0, 100, 0]), (Some(3), [0, 100, 0, 0])] {
        fail(&group, down.as_slice());
        assert_eq!(percents(&group, 4), expect);
    }
    fail(&group, &[2]);
    assert_eq!(
        pick(&mut picker(&group), &PickInput::default()),
        Err(NoHealthyEndpoint::Unhealthy),
        "zone d is not used"
    );
    let levels: Vec<_> = group.status().members.iter().map(|m| m.priority).collect();
    assert_eq!(levels, [Some(0), Some(2), Some(1), None]);
}

#[test]
fn affinities_share_a_zone_by_weight() {
    let affinity = [("node", 90), ("rack", 9)].map(|(label, weight)| Affinity { label: label.into(), weight });
    let policy = zones(ZonePreference { affinity: affinity.to_vec(), ..ZonePreference::default() });
    let members = vec![
        placed(1, 0, "a", &[("node", "n1"), ("rack", "r1")]),
        placed(2, 0, "a", &[("node", "n2"), ("rack", "r1")]),
        placed(3, 0, "a", &[("rack", "r2")]),
        placed(4, 0, "b", &[("node", "n1")]),
    ];
    let group = group(with(policy, Algorithm::RoundRobin), members);
    group.set_place(&at("a", &[("node", "n1"), ("rack", "r1")]), Tick(1));
    assert_eq!(percents(&group, 4), [90, 9, 1, 0]);
    fail(&group, &[1]);
    // Two of three are 93 percent of what the zone has to take; within it, 9 to 1.
    assert_eq!(percents(&group, 4), [0, 84, 9, 7]);
}

/// The rotation of one tier is not disturbed by picks of another.
#[test]
fn each_tier_has_its_own_rotation() {
    let members = (1..=10).map(|n| placed(n, 0, "", &[])).chain((11..=13).map(|n| placed(n, 1, "", &[]))).collect();
    let group = group(with(LocalityPolicy::default(), Algorithm::RoundRobin), members);
    fail(&group, &[1, 2, 3, 4, 5]);
    let counts = tally(&mut picker(&group), 13, 10_000);
    for (tier, expect) in [(5..10, 1_400), (10..13, 1_000)] {
        for count in &counts[tier] {
            assert!(count.abs_diff(expect) < 150, "{counts:?}");
        }
    }
}

#[test]
fn the_same_hash_leads_to_the_same_address_in_all_priorities() {
    let members = (1..=4).map(|n| placed(n, 0, "", &[])).chain((5..=8).map(|n| placed(n, 1, "", &[]))).collect();
    let group = group(with(LocalityPolicy::default(), Algorithm::ConsistentHashing), members);
    fail(&group, &[1, 2]);
    let (mut one, mut two) = (picker(&group), group.picker(Box::new(SeededRng::new(99))));
    let mut counts = [0; 8];
    for n in 0..2_000_u32 {
        let text = n.to_string();
        let input = PickInput { hash: Some(text.as_bytes()), ..PickInput::default() };
        let chosen = pick(&mut one, &input).unwrap();
        assert_eq!(pick(&mut two, &input).unwrap(), chosen);
        counts[chosen as usize - 1] += 1;
    }
    let second: usize = counts[4..].iter().sum();
    assert!((500..700).contains(&second), "30 percent: {counts:?}");
    assert!(counts[2..].iter().all(|count| *count > 20), "each address has keys: {counts:?}");
}

#[test]
fn a_cookie_is_followed_into_another_priority() {
    let sticky = Algorithm::Sticky { cookie: "c".into(), path: "/".into() };
    let members = (1..=2).map(|n| placed(n, 0, "", &[])).chain([placed(3, 1, "", &[])]).collect();
    let group = group(with(LocalityPolicy::default(), sticky), members);
    fail(&group, &[1]);
    let mut picker = picker(&group);
    let mut cookies = std::collections::BTreeMap::new();
    for _ in 0..200 {
        let picked = picker.pick(&PickInput::default()).unwrap();
        cookies.insert(picked.endpoint().as_u128(), picked.new_cookie().unwrap().to_owned());
    }
    assert_eq!(cookies.keys().copied().collect::<Vec<_>>(), [2, 3]);
    for (member, cookie) in &cookies {
        for _ in 0..50 {
            let input = PickInput { cookie: Some(cookie), ..PickInput::default() };
            assert_eq!(pick(&mut picker, &input), Ok(*member));
        }
    }
}

#[test]
fn a_retry_takes_an_address_that_was_not_tried() {
    let members = vec![placed(1, 0, "", &[]), placed(2, 0, "", &[]), placed(3, 1, "", &[])];
    let group = group(with(LocalityPolicy::default(), Algorithm::RoundRobin), members);
    fail(&group, &[1]);
    let mut picker = picker(&group);
    for _ in 0..100 {
        let first = picker.pick(&PickInput::default()).unwrap();
        let again = picker.pick(&PickInput { tried: &[first.key()], ..PickInput::default() }).unwrap();
        assert_ne!(first.key(), again.key());
    }
}

/// A view that is replaced while pickers of other versions pick never names a tier that is not there.
#[test]
fn pickers_follow_changes_of_priorities() {
    let mut rng = SeededRng::new(5);
    let group = group(with(LocalityPolicy::default(), Algorithm::RoundRobin), members(&[1]));
    let mut picker = picker(&group);
    for round in 0..200_u64 {
        let count = 1 + rng.below(6) as u128;
        let members: Vec<Member> = (1..=count).map(|n| placed(n, rng.below(4) as u32, "", &[])).collect();
        group.update(Arc::new(with(LocalityPolicy::default(), Algorithm::RoundRobin)), members, Tick(round));
        let picked = picker.pick(&PickInput::default()).unwrap();
        assert!(picked.endpoint().as_u128() <= count);
        group.report(&picked, Outcome::TcpFailure, Tick(round));
        assert!(picker.pick(&PickInput::default()).unwrap().endpoint().as_u128() <= count, "panics at worst");
    }
}
