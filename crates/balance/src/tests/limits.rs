//! Limits on requests in flight.

use cardinal_ir::policy::CircuitLimits;

use super::*;
use crate::LimitKind;

fn limited(max_requests: u32) -> Cluster {
    let circuit = CircuitLimits { max_requests: Some(max_requests), ..CircuitLimits::default() };
    Cluster { circuit: Some(Box::new(circuit)), ..spec(Algorithm::RoundRobin) }
}

fn used(group: &Group, kind: LimitKind) -> u64 {
    group.status().limits.iter().find(|limit| limit.kind == kind).unwrap().used
}

#[test]
fn a_picked_address_holds_a_place_until_it_is_dropped() {
    let group = group(limited(2), members(&[1, 1]));
    let (mut one, mut two) = (picker(&group), picker(&group));
    let first = one.pick(&PickInput::default()).unwrap();
    let second = two.pick(&PickInput::default()).unwrap();
    assert_eq!(used(&group, LimitKind::Requests), 2);
    for picker in [&mut one, &mut two] {
        assert_eq!(pick(picker, &PickInput::default()), Err(NoHealthyEndpoint::Overflow));
        // What is no request takes no place.
        assert!(picker.pick(&PickInput { uncounted: true, ..PickInput::default() }).is_ok());
    }
    drop(first);
    let third = two.pick(&PickInput::default()).unwrap();
    assert_eq!(pick(&mut one, &PickInput::default()), Err(NoHealthyEndpoint::Overflow));
    drop((second, third));
    assert_eq!(used(&group, LimitKind::Requests), 0);
}

#[test]
fn a_pick_that_fails_holds_nothing() {
    let mut spec = limited(1);
    spec.health = checked(Algorithm::RoundRobin).health;
    let group = group(spec, members(&[1]));
    group.set_health(id(1), None, false, Tick(0)).unwrap();
    let mut picker = picker(&group);
    for _ in 0..3 {
        assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    }
    group.set_health(id(1), None, true, Tick(0)).unwrap();
    assert_eq!(pick(&mut picker, &PickInput::default()), Ok(1));
}

#[test]
fn a_changed_limit_counts_what_is_in_flight() {
    let group = group(limited(3), members(&[1]));
    let mut picker = picker(&group);
    let mut held: Vec<_> = (0..3).map(|_| picker.pick(&PickInput::default()).unwrap()).collect();
    group.update(Arc::new(limited(1)), members(&[1]), Tick(1));
    held.pop();
    held.pop();
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Overflow));
    held.pop();
    assert_eq!(pick(&mut picker, &PickInput::default()), Ok(1));
    group.update(Arc::new(spec(Algorithm::RoundRobin)), members(&[1]), Tick(2));
    let many: Vec<_> = (0..9).map(|_| picker.pick(&PickInput::default()).unwrap()).collect();
    assert!(group.status().limits.is_empty() && many.len() == 9);
    group.update(Arc::new(limited(1)), members(&[1]), Tick(3));
    assert_eq!(pick(&mut picker, &PickInput::default()), Ok(1), "what began without a limit is not counted");
}
