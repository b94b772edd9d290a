//! Which member is picked.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Outcome, State};

fn all_algorithms() -> [Algorithm; 5] {
    [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::ConsistentHashing,
        Algorithm::Latency,
        Algorithm::Sticky { cookie: "c".into(), path: "/".into() },
    ]
}

#[test]
fn round_robin_gives_each_its_turns() {
    let group = group(spec(Algorithm::RoundRobin), members(&[100, 200, 100]));
    assert_eq!(tally(&mut picker(&group), 3, 400), [100, 200, 100]);
}

#[test]
fn round_robin_pointers_belong_to_workers() {
    let group = group(spec(Algorithm::RoundRobin), members(&[1, 1]));
    let (mut one, mut two) = (picker(&group), picker(&group));
    let first = pick(&mut one, &PickInput::default()).unwrap();
    assert_eq!(pick(&mut two, &PickInput::default()).unwrap(), first);
}

#[test]
fn weight_zero_takes_no_traffic_under_any_algorithm() {
    for algorithm in all_algorithms() {
        let group = group(spec(algorithm.clone()), members(&[0, 10]));
        assert_eq!(tally(&mut picker(&group), 2, 50), [0, 50], "{algorithm:?}");
        let group = self::group(spec(algorithm), members(&[0]));
        assert_eq!(pick(&mut picker(&group), &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    }
}

#[test]
fn least_connections_follows_connections_over_weight() {
    let group = group(spec(Algorithm::LeastConnections), members(&[100, 50]));
    let mut picker = picker(&group);
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(picker.pick(&PickInput::default()).unwrap());
    }
    let on_first = held.iter().filter(|p| p.endpoint() == id(1)).count();
    assert_eq!(on_first, 20);
    held.retain(|p| p.endpoint() == id(2));
    // All connections of the first member have ended, so it takes the next ones.
    for _ in 0..15 {
        let picked = picker.pick(&PickInput::default()).unwrap();
        assert_eq!(picked.endpoint(), id(1));
        held.push(picked);
    }
    drop(held);
    assert!(group.status().members.iter().all(|m| m.addresses.iter().all(|a| a.connections == 0)));
}

#[test]
fn latency_prefers_the_fast_and_newcomers_start_from_the_average() {
    let group = group(spec(Algorithm::Latency), members(&[10, 10]));
    let mut picker = picker(&group);
    let mut now = Tick(0);
    for _ in 0..50 {
        now = now.plus_millis(500);
        let mut tried = Vec::new();
        for _ in 0..2 {
            let picked = picker.pick(&PickInput { now, tried: &tried, ..PickInput::default() }).unwrap();
            let latency = Duration::from_millis(if picked.endpoint() == id(1) { 10 } else { 300 });
            group.report(&picked, Outcome::Ok { latency }, now);
            tried.push(picked.key());
        }
    }
    for _ in 0..50 {
        assert_eq!(pick(&mut picker, &PickInput { now, ..PickInput::default() }), Ok(1));
    }
    // A third one is neither flooded nor starved: better than the slow, worse than the fast.
    group.update(Arc::new(spec(Algorithm::Latency)), members(&[10, 10, 10]), now);
    let mut counts = [0; 3];
    for _ in 0..300 {
        counts[pick(&mut picker, &PickInput { now, ..PickInput::default() }).unwrap() as usize - 1] += 1;
    }
    assert_eq!(counts[1], 0, "{counts:?}");
    assert!(counts[0] > counts[2] && counts[2] > 50, "{counts:?}");
}

#[test]
fn hashing_is_stable_and_takes_no_hash_as_empty() {
    let group = group(spec(Algorithm::ConsistentHashing), members(&[100, 100, 100]));
    let (mut one, mut two) = (picker(&group), picker(&group));
    let input = |key| PickInput { hash: Some(key), ..PickInput::default() };
    for key in ["a", "b", "c", "d"] {
        assert_eq!(pick(&mut one, &input(key.as_bytes())), pick(&mut two, &input(key.as_bytes())));
    }
    assert_eq!(pick(&mut one, &PickInput::default()), pick(&mut one, &input(b"")));
}

#[test]
fn hashing_places_members_as_kong_does_whatever_their_order() {
    let three = |order: [u16; 3]| order.map(|p| member(u128::from(p), "127.0.0.1", p, 100)).to_vec();
    for order in [[8001, 8002, 8003], [8003, 8001, 8002]] {
        let group = group(spec(Algorithm::ConsistentHashing), three(order));
        let mut picker = picker(&group);
        let row: Vec<u128> = ["", "a", "b", "foo", "bar"]
            .iter()
            .map(|k| pick(&mut picker, &PickInput { hash: Some(k.as_bytes()), ..PickInput::default() }).unwrap())
            .collect();
        // The first five keys of the golden row of `ring`.
        assert_eq!(row, [8002, 8003, 8001, 8003, 8002]);
    }
}

#[test]
fn sticky_returns_to_the_address_that_the_cookie_names() {
    let group = group(checked(Algorithm::Sticky { cookie: "s".into(), path: "/".into() }), members(&[10, 10, 10]));
    let mut picker = picker(&group);
    let first = picker.pick(&PickInput::default()).unwrap();
    let cookie = first.new_cookie().unwrap().to_owned();
    let input = PickInput { cookie: Some(&cookie), ..PickInput::default() };
    for _ in 0..20 {
        let again = picker.pick(&input).unwrap();
        assert_eq!((again.address(), again.new_cookie()), (first.address(), None));
    }
    // The address fails: another one, and a new cookie.
    group.report(&first, Outcome::TcpFailure, Tick(0));
    let other = picker.pick(&input).unwrap();
    assert_ne!(other.address(), first.address());
    assert!(other.new_cookie().is_some_and(|c| c != cookie));
    assert!(picker.pick(&PickInput { cookie: Some("nonsense"), ..input }).unwrap().new_cookie().is_some());
}

#[test]
fn failover_members_serve_only_while_no_other_is_healthy() {
    let mut all = members(&[10, 10]);
    all.push(failover(3, "10.0.0.3", 80, 10));
    let group = group(checked(Algorithm::RoundRobin), all);
    let mut picker = picker(&group);
    assert_eq!(tally(&mut picker, 3, 100), [50, 50, 0]);
    group.set_health(id(1), None, false, Tick(0)).unwrap();
    assert_eq!(tally(&mut picker, 3, 100), [0, 100, 0]);
    group.set_health(id(2), None, false, Tick(0)).unwrap();
    assert_eq!(tally(&mut picker, 3, 100), [0, 0, 100]);
    group.set_health(id(3), None, false, Tick(0)).unwrap();
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    group.set_health(id(1), None, true, Tick(0)).unwrap();
    assert_eq!(tally(&mut picker, 3, 100), [100, 0, 0]);
}

#[test]
fn the_threshold_is_strict() {
    let mut spec = checked(Algorithm::RoundRobin);
    spec.health.threshold_percent = 50.0;
    let group = group(spec, members(&[10, 10, 20]));
    let mut picker = picker(&group);
    group.set_health(id(1), None, false, Tick(0)).unwrap();
    assert!(pick(&mut picker, &PickInput::default()).is_ok());
    // Exactly 50 percent is not enough.
    group.set_health(id(2), None, false, Tick(0)).unwrap();
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    assert_eq!(group.status().state, State::Unhealthy);
}

#[test]
fn when_all_have_been_tried_the_healthy_are_tried_again() {
    for algorithm in all_algorithms() {
        let group = group(spec(algorithm), members(&[1, 1]));
        let mut picker = picker(&group);
        let tried = [key_of(&mut picker, 1), key_of(&mut picker, 2)];
        assert!(picker.pick(&PickInput { tried: &tried, ..PickInput::default() }).is_ok());
    }
}

proptest! {
    #[test]
    fn round_robin_follows_weights(weights in prop::collection::vec(0_u32..60, 1..8)) {
        prop_assume!(weights.iter().any(|w| *w > 0));
        let group = group(spec(Algorithm::RoundRobin), members(&weights));
        let total: u32 = weights.iter().sum();
        let counts = tally(&mut picker(&group), weights.len(), total as usize);
        let expect: Vec<usize> = weights.iter().map(|w| *w as usize).collect();
        prop_assert_eq!(counts, expect);
    }

    /// Neither sick nor tried addresses are picked while another one is healthy.
    #[test]
    fn a_pick_is_fit(
        algorithm in prop::sample::select(all_algorithms().to_vec()),
        weights in prop::collection::vec(0_u32..20, 1..8),
        sick in prop::collection::vec(any::<bool>(), 8),
        tried in prop::collection::vec(any::<bool>(), 8),
        hash in any::<[u8; 4]>(),
    ) {
        let group = group(checked(algorithm), members(&weights));
        let mut picker = picker(&group);
        let usable: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0).collect();
        let keys: Vec<AddressKey> =
            usable.iter().filter(|i| tried[**i]).map(|i| key_of(&mut picker, *i as u128 + 1)).collect();
        for i in usable.iter().filter(|i| sick[**i]) {
            group.set_health(id(*i as u128 + 1), None, false, Tick(0)).unwrap();
        }
        let healthy: Vec<usize> = usable.iter().copied().filter(|i| !sick[*i]).collect();
        let input = PickInput { hash: Some(&hash), tried: &keys, ..PickInput::default() };
        for _ in 0..20 {
            match pick(&mut picker, &input) {
                Err(error) => prop_assert!(healthy.is_empty() && error == NoHealthyEndpoint::Unhealthy),
                Ok(member) => {
                    let member = member as usize - 1;
                    prop_assert!(healthy.contains(&member));
                    prop_assert!(!tried[member] || healthy.iter().all(|i| tried[*i]));
                }
            }
        }
    }
}
