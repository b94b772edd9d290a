//! Ejections as seen by picks, beside health checks.

use std::time::Duration;

use cardinal_ir::policy::{Detectors, LocalityPolicy, OutlierDetection};

use super::*;
use crate::{Detector, Event, Outcome, Picked, ProbeOutcome, State};

fn outlier() -> OutlierDetection {
    OutlierDetection {
        interval_ms: 1_000,
        base_ejection_ms: 3_000,
        max_ejection_percent: 50,
        detectors: Detectors { total: 2, ..Detectors::default() },
        ..OutlierDetection::default()
    }
}

fn with(outlier: OutlierDetection) -> Cluster {
    Cluster { outlier: Some(Box::new(outlier)), ..spec(Algorithm::RoundRobin) }
}

fn picked(group: &Arc<Group>, member: u128) -> Picked {
    let mut picker = picker(group);
    (0..50).map(|_| picker.pick(&PickInput::default()).unwrap()).find(|p| p.endpoint() == id(member)).unwrap()
}

fn fail(group: &Arc<Group>, picked: &Picked, now: Tick) {
    group.report(picked, Outcome::Status(500), now);
    group.report(picked, Outcome::Status(500), now);
}

#[test]
fn an_ejected_address_is_not_picked_and_returns_by_itself() {
    let group = group(with(outlier()), members(&[1, 1]));
    let first = picked(&group, 1);
    fail(&group, &first, Tick::from_millis(500));
    assert_eq!(tally(&mut picker(&group), 2, 10), [0, 10]);
    let address = addr("10.0.0.1:80");
    let (endpoint, host) = (id(1), Arc::from("10.0.0.1"));
    let (detector, lasts, detail) = (Detector::Total, Duration::from_secs(3), None);
    let ejected = Event::Ejected { endpoint, host: Arc::clone(&host), address, detector, lasts, detail };
    assert_eq!(group.take_events(), [ejected]);
    let status = group.status();
    let shown = &status.members[0].addresses[0];
    assert_eq!(shown.ejection.map(|e| (e.detector, e.until.0, e.times)), Some((Detector::Total, 3_500_000, 1)));
    assert_eq!(shown.state, State::HealthChecksOff, "an ejection is no verdict of health checks");
    assert_eq!((status.weight.available, status.weight.unavailable), (1, 1));
    // It returns with the first interval that ends after its time.
    for (at, counts) in [(1_000, [0, 10]), (3_000, [0, 10]), (4_000, [5, 5])] {
        assert!(group.next_due(Tick::from_millis(at)).is_some_and(|due| due <= Tick::from_millis(at)));
        group.evaluate(Tick::from_millis(at));
        assert_eq!(tally(&mut picker(&group), 2, 10), counts, "{at}");
    }
    assert_eq!(group.take_events(), [Event::Returned { endpoint, host, address }]);
    let counts = group.status().ejections.unwrap();
    assert_eq!((counts.made[0], counts.active, counts.prevented), ((Detector::Total, 1), 0, 0));
}

#[test]
fn the_limit_on_ejections_is_counted() {
    let group = group(with(outlier()), members(&[1, 1, 1]));
    let all = [picked(&group, 1), picked(&group, 2), picked(&group, 3)];
    all.iter().for_each(|picked| fail(&group, picked, Tick(0)));
    assert_eq!(tally(&mut picker(&group), 3, 10), [0, 5, 5], "half of three is one");
    assert_eq!(group.status().ejections.unwrap().prevented, 2);
}

#[test]
fn the_last_address_may_be_ejected_and_a_panic_uses_it() {
    let group = group(with(outlier()), members(&[1]));
    fail(&group, &picked(&group, 1), Tick(0));
    assert_eq!(pick(&mut picker(&group), &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    let policy = Some(Box::new(LocalityPolicy::default()));
    group.update(Arc::new(Cluster { locality: policy, ..with(outlier()) }), members(&[1]), Tick(1));
    assert_eq!(pick(&mut picker(&group), &PickInput::default()), Ok(1));
    assert!(group.status().members[0].addresses[0].ejection.is_some());
}

#[test]
fn ejections_survive_changes_and_end_with_the_policy() {
    let group = group(with(outlier()), members(&[1, 1]));
    fail(&group, &picked(&group, 1), Tick(0));
    group.update(Arc::new(with(outlier())), members(&[5, 5, 5]), Tick(1));
    assert_eq!(tally(&mut picker(&group), 3, 10), [0, 5, 5]);
    let off = OutlierDetection { enabled: false, ..outlier() };
    group.update(Arc::new(with(off)), members(&[5, 5]), Tick(2));
    assert_eq!(tally(&mut picker(&group), 2, 10), [5, 5]);
    assert_eq!(group.next_due(Tick(3)), None);
    fail(&group, &picked(&group, 1), Tick(3));
    assert_eq!(tally(&mut picker(&group), 2, 10), [5, 5]);
}

#[test]
fn a_probe_ends_an_ejection_where_it_is_set_to() {
    for returns_on_probe in [false, true] {
        let mut spec = with(OutlierDetection { returns_on_probe, ..outlier() });
        spec.health.active = checked(Algorithm::RoundRobin).health.active;
        spec.health.active.healthy_interval_ms = 100;
        let group = group(spec, members(&[1, 1]));
        fail(&group, &picked(&group, 1), Tick(0));
        for probe in group.due(Tick::from_millis(200)) {
            group.probe_result(probe.key, ProbeOutcome::Status(200), Tick::from_millis(200));
        }
        let expect = if returns_on_probe { [5, 5] } else { [0, 10] };
        assert_eq!(tally(&mut picker(&group), 2, 10), expect);
    }
}

#[test]
fn reports_of_addresses_that_are_gone_change_nothing() {
    let group = group(with(outlier()), members(&[1, 1]));
    let gone = picked(&group, 2);
    group.update(Arc::new(with(outlier())), members(&[1]), Tick(1));
    fail(&group, &gone, Tick(1));
    assert_eq!(group.status().ejections.unwrap().active, 0);
    assert_eq!(group.take_events(), []);
}
