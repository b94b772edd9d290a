//! Probes in simulated time.

use std::collections::BTreeMap;
use std::time::Duration;

use cardinal_base::{Clock, ManualClock, Rng, UnixMillis};

use super::*;
use crate::{Outcome, Probe, ProbeOutcome, State};

fn probed(healthy_ms: u64, unhealthy_ms: u64, concurrency: u32) -> Cluster {
    let mut spec = checked(Algorithm::RoundRobin);
    spec.health.active.healthy_interval_ms = healthy_ms;
    spec.health.active.unhealthy_interval_ms = unhealthy_ms;
    spec.health.active.concurrency = concurrency;
    spec
}

fn at(ms: u64) -> Tick {
    Tick::from_millis(ms)
}

fn numbers(probes: &[Probe]) -> Vec<u128> {
    probes.iter().map(|p| p.endpoint.as_u128()).collect()
}

#[test]
fn the_two_rhythms_probe_their_kind() {
    let group = group(probed(1_000, 200, 10), members(&[10, 10, 0]));
    assert_eq!(group.next_due(at(0)), Some(at(200)));
    assert!(group.due(at(199)).is_empty());
    assert!(group.due(at(200)).is_empty(), "nobody is unhealthy");
    group.set_health(id(2), None, false, at(300)).unwrap();
    let probes = group.due(at(400));
    assert_eq!(numbers(&probes), [2]);
    assert_eq!(&*probes[0].host, "10.0.0.2");
    // Two successes bring it back.
    group.probe_result(probes[0].key, ProbeOutcome::Status(200), at(410));
    assert_eq!(group.status().members[1].state, State::Unhealthy);
    let probes = group.due(at(600));
    group.probe_result(probes[0].key, ProbeOutcome::Success, at(610));
    assert_eq!(group.status().members[1].state, State::Healthy);
    // A member without weight is not probed.
    assert_eq!(numbers(&group.due(at(1_000))), [1, 2]);
}

#[test]
fn probes_keep_to_their_concurrency() {
    let group = group(probed(1_000, 0, 2), members(&[10; 5]));
    let first = group.due(at(1_000));
    assert_eq!(first.len(), 2);
    assert!(group.due(at(1_001)).is_empty());
    group.probe_result(first[0].key, ProbeOutcome::Status(200), at(1_002));
    assert_eq!(group.next_due(at(1_002)), Some(at(1_002)));
    assert_eq!(group.due(at(1_002)).len(), 1);
    // A round that is not finished when the next begins probes no address twice.
    let mut running = group.due(at(2_000));
    assert!(running.is_empty());
    group.probe_result(first[1].key, ProbeOutcome::Status(200), at(2_001));
    running.extend(group.due(at(2_001)));
    assert_eq!(running.len(), 1);
}

#[test]
fn a_lost_probe_does_not_block_for_ever() {
    let group = group(probed(1_000, 0, 1), members(&[10]));
    let lost = group.due(at(1_000));
    assert_eq!(lost.len(), 1);
    assert!(group.due(at(5_000)).is_empty());
    // Four times the timeout and ten seconds.
    assert_eq!(group.due(at(15_000)).len(), 1);
}

#[test]
fn failures_of_probes_have_their_own_limits() {
    let group = group(probed(1_000, 0, 10), members(&[10]));
    let mut now = 0;
    let mut probe = |outcome| {
        now += 1_000;
        for probe in group.due(at(now)) {
            group.probe_result(probe.key, outcome, at(now));
        }
        group.status().members[0].state
    };
    assert_eq!(probe(ProbeOutcome::BadAnswer), State::Healthy);
    assert_eq!(probe(ProbeOutcome::Status(503)), State::Healthy);
    assert_eq!(probe(ProbeOutcome::Status(418)), State::Healthy);
    assert_eq!(probe(ProbeOutcome::Status(500)), State::Unhealthy);
}

#[test]
fn intervals_that_stay_keep_their_round() {
    let group = group(probed(1_000, 0, 10), members(&[10]));
    group.update(Arc::new(probed(1_000, 500, 10)), members(&[10]), at(900));
    assert_eq!(group.next_due(at(900)), Some(at(1_000)));
    group.update(Arc::new(probed(0, 0, 10)), members(&[10]), at(950));
    assert_eq!(group.next_due(at(950)), None);
}

/// Servers that fail and recover at random, traffic and probes: an address that is down for long is found out, one that
/// is up for long is back, no address is picked while it is out, and two runs of one seed are the same.
fn simulate(seed: u64) -> String {
    let clock = ManualClock::at(UnixMillis(0));
    let mut rng = SeededRng::new(seed);
    let group = group(probed(1_000, 500, 2), members(&[10, 20, 30, 40]));
    let mut picker = picker(&group);
    let mut up = [true; 4];
    let mut changed = [0_u64; 4];
    let mut running: BTreeMap<u64, Vec<Probe>> = BTreeMap::new();
    let mut trace = String::new();
    for step in 0..6_000_u64 {
        clock.advance(Duration::from_millis(10));
        let now = clock.tick();
        if rng.below(400) == 0 {
            let server = rng.below(4) as usize;
            up[server] = !up[server];
            changed[server] = now.millis();
        }
        for probe in running.remove(&step).unwrap_or_default() {
            let ok = up[probe.endpoint.as_u128() as usize - 1];
            group.probe_result(probe.key, if ok { ProbeOutcome::Status(200) } else { ProbeOutcome::TcpFailure }, now);
        }
        if group.next_due(now).is_some_and(|due| due <= now) {
            let probes = group.due(now);
            let in_flight: usize = running.values().map(Vec::len).sum();
            assert!(probes.len() + in_flight <= 2);
            for probe in probes {
                running.entry(step + 1 + rng.below(5)).or_default().push(probe);
            }
        }
        let status = group.status();
        match picker.pick(&PickInput { now, ..PickInput::default() }) {
            Ok(picked) => {
                let server = picked.endpoint().as_u128() as usize - 1;
                assert_eq!(status.members[server].state, State::Healthy);
                let outcome = if up[server] { Outcome::Status(200) } else { Outcome::TcpFailure };
                group.report(&picked, outcome, now);
            }
            Err(error) => {
                assert_eq!(error, NoHealthyEndpoint::Unhealthy);
                assert!(status.members.iter().all(|m| m.state == State::Unhealthy));
            }
        }
        for (server, member) in group.status().members.iter().enumerate() {
            // Two rounds of the slower rhythm with two probes at a time, and the probes' own time.
            if now.millis() > changed[server] + 3_000 {
                assert_eq!(member.state == State::Healthy, up[server], "seed {seed}, {now:?}, server {server}");
            }
        }
        for event in group.take_events() {
            trace.push_str(&format!("{} {event:?}\n", now.millis()));
        }
    }
    trace
}

#[test]
fn health_in_simulation() {
    for seed in 0..20 {
        let trace = simulate(seed);
        assert!(trace.contains("probe") && trace.contains("traffic"));
        assert_eq!(trace, simulate(seed));
    }
}
