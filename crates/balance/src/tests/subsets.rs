//! Groups of subsets, which share all state of addresses with the group of all members.

use cardinal_ir::Labels;
use cardinal_ir::policy::{CircuitLimits, Detectors, OutlierDetection, SubsetFallback};

use super::*;
use crate::{Outcome, Vacancy};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

/// Members 1 and 2 are v1, member 3 is v2.
fn versions() -> Vec<Member> {
    let mut members = members(&[10, 10, 10]);
    for (member, version) in members.iter_mut().zip(["v1", "v1", "v2"]) {
        Arc::make_mut(&mut member.endpoint).labels = labels(&[("version", version), ("app", "a")]);
    }
    members
}

fn v(version: &str) -> Labels {
    labels(&[("version", version)])
}

#[test]
fn a_subset_has_the_members_with_all_its_labels() {
    let group = group(checked(Algorithm::RoundRobin), versions());
    let (v1, v2) = (group.subset(&v("v1")), group.subset(&v("v2")));
    assert_eq!(tally(&mut picker(&v1), 3, 100), [50, 50, 0]);
    assert_eq!(tally(&mut picker(&v2), 3, 100), [0, 0, 100]);
    assert_eq!(tally(&mut picker(&group.subset(&Labels::default())), 3, 99), [33, 33, 33]);
    let both = group.subset(&labels(&[("version", "v1"), ("app", "b")]));
    assert_eq!(pick(&mut picker(&both), &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    assert_eq!(both.vacancy(), Vacancy::NoneEligible);
    let shown: Vec<u128> = v1.status().members.iter().map(|m| m.endpoint.as_u128()).collect();
    assert_eq!(shown, [1, 2]);
    assert!(v1.is_related(&group) && v1.is_related(&v2));
    assert!(v1.id() != group.id() && v1.id() != v2.id());
    assert_eq!(v1.id(), group.subset(&v("v1")).id());
}

#[test]
fn health_is_that_of_the_addresses() {
    let group = group(checked(Algorithm::RoundRobin), versions());
    let (v1, v2) = (group.subset(&v("v1")), group.subset(&v("v2")));
    let (mut all, mut one, mut two) = (picker(&group), picker(&v1), picker(&v2));
    let first = loop {
        let picked = all.pick(&PickInput::default()).unwrap();
        if picked.endpoint() == id(1) {
            break picked;
        }
    };
    group.report(&first, Outcome::TcpFailure, Tick(1));
    assert_eq!(tally(&mut one, 3, 10), [0, 10, 0]);
    let third = two.pick(&PickInput::default()).unwrap();
    v2.report(&third, Outcome::TcpFailure, Tick(1));
    assert_eq!(pick(&mut two, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    assert_eq!(tally(&mut all, 3, 10), [0, 10, 0]);
    group.set_health(id(3), None, true, Tick(2)).unwrap();
    assert_eq!(pick(&mut two, &PickInput::default()), Ok(3));
}

#[test]
fn ejections_are_those_of_the_addresses() {
    let detectors = Detectors { total: 1, ..Detectors::default() };
    let outlier = OutlierDetection { detectors, max_ejection_percent: 100, ..OutlierDetection::default() };
    let group = group(Cluster { outlier: Some(Box::new(outlier)), ..spec(Algorithm::RoundRobin) }, versions());
    let v2 = group.subset(&v("v2"));
    let mut two = picker(&v2);
    let picked = two.pick(&PickInput::default()).unwrap();
    v2.report(&picked, Outcome::Status(500), Tick(0));
    assert_eq!(pick(&mut two, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    assert_eq!(tally(&mut picker(&group), 3, 10), [5, 5, 0]);
    group.evaluate(Tick::from_millis(60_000));
    assert_eq!(pick(&mut two, &PickInput::default()), Ok(3));
}

#[test]
fn limits_are_those_of_the_cluster() {
    let circuit = CircuitLimits { max_requests: Some(1), ..CircuitLimits::default() };
    let group = group(Cluster { circuit: Some(Box::new(circuit)), ..spec(Algorithm::RoundRobin) }, versions());
    let (mut one, mut two) = (picker(&group.subset(&v("v1"))), picker(&group.subset(&v("v2"))));
    let held = one.pick(&PickInput::default()).unwrap();
    assert_eq!(pick(&mut two, &PickInput::default()), Err(NoHealthyEndpoint::Overflow));
    drop(held);
    assert_eq!(pick(&mut two, &PickInput::default()), Ok(3));
}

#[test]
fn changes_reach_subsets_in_place() {
    let spec = |subset_fallback| Arc::new(Cluster { subset_fallback, ..checked(Algorithm::RoundRobin) });
    let group = group((*spec(SubsetFallback::Fail)).clone(), versions());
    let v2 = group.subset(&v("v2"));
    let mut two = picker(&v2);
    assert_eq!(pick(&mut two, &PickInput::default()), Ok(3));
    // Another label moves a member, a new member arrives.
    let mut members = versions();
    Arc::make_mut(&mut members[0].endpoint).labels = v("v2");
    members.push(member(4, "10.0.0.4", 80, 10));
    Arc::make_mut(&mut members[3].endpoint).labels = v("v2");
    group.update(spec(SubsetFallback::Fail), members, Tick(1));
    let counts = tally(&mut two, 4, 30);
    assert_eq!(counts, [10, 0, 10, 10]);
    group.update(spec(SubsetFallback::Fail), self::members(&[1, 1]), Tick(2));
    assert_eq!(pick(&mut two, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    group.update(spec(SubsetFallback::AnyEndpoint), self::members(&[1, 1]), Tick(3));
    assert_eq!(tally(&mut two, 2, 10), [5, 5]);
}
