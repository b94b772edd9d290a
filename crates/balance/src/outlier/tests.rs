use proptest::prelude::*;

use cardinal_ir::policy::{Detectors, FailurePercentage, SuccessRate};

use super::*;

fn consecutive(total: u32, gateway: u32, local_origin: u32) -> OutlierDetection {
    let detectors = Detectors { total, gateway, local_origin, ..Detectors::default() };
    OutlierDetection { detectors, ..OutlierDetection::default() }
}

/// What outcomes in a row come to.
fn observe(spec: &OutlierDetection, outcomes: &[Outcome]) -> Vec<Option<Detector>> {
    let monitor = Monitor::default();
    monitor.prepare(spec);
    outcomes.iter().map(|outcome| monitor.observe(spec, *outcome, 0)).collect()
}

const OK: Outcome = Outcome::Status(200);

#[test]
fn failures_in_a_row_are_counted_by_kind() {
    use Outcome::{Connected, Status, TcpFailure, Timeout};
    let (total, gateway, local) = (Some(Detector::Total), Some(Detector::Gateway), Some(Detector::LocalOrigin));
    let split = OutlierDetection { split_local_origin: true, ..consecutive(0, 2, 2) };
    for (spec, outcomes, expect) in [
        (consecutive(2, 0, 0), &[Status(500), Status(503)][..], &[None, total][..]),
        (consecutive(2, 0, 0), &[Status(500), OK, Status(599)], &[None, None, None]),
        (consecutive(2, 0, 0), &[Status(500), Status(404), Status(500)], &[None, None, None]),
        (consecutive(0, 2, 0), &[Status(502), Status(500), Status(504), Status(503)], &[None, None, None, gateway]),
        (consecutive(2, 2, 0), &[Status(502), Status(502)], &[None, gateway]),
        (consecutive(1, 0, 0), &[Status(500), Status(500)], &[total, total]),
        (consecutive(0, 0, 0), &[Status(500), TcpFailure], &[None, None]),
        // Failures of connections count as statuses unless they are split off.
        (consecutive(0, 2, 1), &[TcpFailure, Timeout], &[None, gateway]),
        (consecutive(2, 0, 1), &[TcpFailure, Connected, Timeout], &[None, None, None]),
        (split.clone(), &[TcpFailure, Timeout], &[None, local]),
        (split.clone(), &[TcpFailure, Status(502), Timeout], &[None, None, None]),
        (split.clone(), &[Status(502), TcpFailure, Status(502)], &[None, None, gateway]),
        (split.clone(), &[TcpFailure, Connected, Timeout], &[None, None, None]),
        (split, &[Status(502), Connected, Status(503)], &[None, None, gateway]),
    ] {
        assert_eq!(observe(&spec, outcomes), expect, "{outcomes:?}");
    }
}

#[test]
fn ejections_grow_and_shrink() {
    let spec = OutlierDetection { base_ejection_ms: 30, max_ejection_ms: 100, ..OutlierDetection::default() };
    let monitor = Monitor::default();
    let mut now = Tick(0);
    let mut lasts = Vec::new();
    for _ in 0..6 {
        lasts.push(monitor.eject(&spec, Detector::Total, now).as_millis());
        let until = monitor.ejection().unwrap().until;
        assert!(!monitor.settle(Tick(until.0 - 1)) && monitor.is_ejected());
        assert!(monitor.settle(until) && !monitor.is_ejected());
        now = until;
    }
    assert_eq!(lasts, [30, 60, 90, 100, 100, 100]);
    // The number does not grow beyond what reaches the longest time.
    for expect in [100, 100, 90, 60, 30] {
        assert!(!monitor.settle(now));
        let probe = Monitor::default();
        probe.times.store(monitor.times.load(Ordering::Relaxed), Ordering::Relaxed);
        assert_eq!(probe.eject(&spec, Detector::Total, now).as_millis(), expect);
    }
    // A base above the longest time counts.
    let long = OutlierDetection { base_ejection_ms: 500, ..spec };
    assert_eq!(Monitor::default().eject(&long, Detector::Total, now).as_millis(), 500);
}

#[test]
fn an_ejected_address_is_not_observed() {
    let spec = consecutive(1, 0, 0);
    let monitor = Monitor::default();
    monitor.eject(&spec, Detector::Gateway, Tick(0));
    assert_eq!(monitor.observe(&spec, Outcome::Status(500), 0), None);
    assert_eq!(monitor.ejection().map(|e| (e.detector, e.times)), Some((Detector::Gateway, 1)));
    monitor.clear();
    assert_eq!(monitor.ejection(), None);
    assert_eq!(monitor.observe(&spec, Outcome::Status(500), 0), Some(Detector::Total));
}

#[test]
fn rates_are_summed_over_shards() {
    let rates = Detectors { failure_percentage: Some(FailurePercentage::default()), ..Detectors::default() };
    let spec = OutlierDetection { detectors: rates, split_local_origin: true, ..OutlierDetection::default() };
    let monitor = Monitor::default();
    monitor.observe(&spec, OK, 0);
    assert_eq!(monitor.take_rate(Side::External), Rate::default(), "nothing is counted before it is prepared");
    monitor.prepare(&spec);
    for shard in 0..20 {
        monitor.observe(&spec, if shard % 4 == 0 { Outcome::Status(500) } else { OK }, shard);
        monitor.observe(&spec, Outcome::TcpFailure, shard);
    }
    assert_eq!(monitor.take_rate(Side::External), Rate { total: 20, failures: 5 });
    assert_eq!(monitor.take_rate(Side::Local), Rate { total: 40, failures: 20 });
    assert_eq!(monitor.take_rate(Side::External), Rate::default());
}

#[test]
fn one_may_always_be_ejected_unless_none_may() {
    let spec = |max_ejection_percent| OutlierDetection { max_ejection_percent, ..OutlierDetection::default() };
    for (percent, addresses, most) in
        [(10, 1, 1), (10, 5, 1), (10, 19, 1), (10, 20, 2), (50, 5, 2), (99, 2, 1), (100, 3, 3), (500, 3, 3), (0, 9, 0)]
    {
        let ejected = (0..=addresses).find(|ejected| !may_eject(&spec(percent), *ejected, addresses));
        assert_eq!(ejected.unwrap_or(addresses).min(addresses), most, "{percent} % of {addresses}");
    }
}

mod simulation {
    //! A group and a naive model of it see the same traffic and the same clock.

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use cardinal_base::{Rng, SeededRng};
    use cardinal_ir::{Cluster, Endpoint, Host, Id};

    use super::*;
    use crate::{Event, Group, Member, PickInput, Picked};

    /// An address in the plainest form: its whole history since the last change.
    #[derive(Default)]
    struct Naive {
        /// Statuses, newest last; failures to connect are 0.
        row: Vec<u16>,
        interval: Vec<u16>,
        until: Option<u64>,
        times: u64,
    }

    impl Naive {
        /// How many in a row at the end satisfy this, of those that `counts`.
        fn in_a_row(&self, counts: impl Fn(u16) -> bool, bad: impl Fn(u16) -> bool) -> u32 {
            self.row.iter().rev().filter(|s| counts(**s)).take_while(|s| bad(**s)).count() as u32
        }
    }

    struct Model {
        spec: OutlierDetection,
        hosts: BTreeMap<u128, Naive>,
    }

    impl Model {
        fn may_eject(&self) -> bool {
            let ejected = self.hosts.values().filter(|h| h.until.is_some()).count() as f64;
            let share = (ejected + 1.0) / self.hosts.len() as f64 * 100.0;
            ejected == 0.0 || share <= f64::from(self.spec.max_ejection_percent) + 1e-9
        }

        fn eject(&mut self, host: u128, now: u64) {
            if !self.may_eject() {
                return;
            }
            let (base, longest) = (self.spec.base_ejection_ms, self.spec.max_ejection_ms);
            let host = self.hosts.get_mut(&host).unwrap();
            if host.until.is_none() {
                host.times += u64::from(host.times * base < longest + base);
                host.until = Some(now + (host.times * base).min(longest));
            }
        }

        fn outcome(&mut self, at: u128, outcome: Outcome, now: u64) {
            let split = self.spec.split_local_origin;
            let detectors = self.spec.detectors.clone();
            let host = self.hosts.get_mut(&at).unwrap();
            if host.until.is_some() {
                return;
            }
            let status = match outcome {
                Outcome::Status(status) => status,
                Outcome::TcpFailure | Outcome::Timeout if split => 0,
                Outcome::TcpFailure => 502,
                _ => 504,
            };
            host.row.push(status);
            host.interval.push(status);
            let reached = |count: u32, limit: u32| limit > 0 && count > 0 && count.is_multiple_of(limit);
            let local = status == 0 && reached(host.in_a_row(|_| true, |s| s == 0), detectors.local_origin);
            let external = |s: u16| s != 0;
            let gateway = (502..=504).contains(&status)
                && reached(host.in_a_row(external, |s| (502..=504).contains(&s)), detectors.gateway);
            let total = status >= 500 && reached(host.in_a_row(external, |s| s >= 500), detectors.total);
            if local || gateway || total {
                self.eject(at, now);
            }
        }

        fn interval(&mut self, now: u64) {
            for host in self.hosts.values_mut() {
                match host.until {
                    Some(until) if until <= now => (host.until, host.row) = (None, Vec::new()),
                    Some(_) => {}
                    None => host.times = host.times.saturating_sub(1),
                }
            }
            let sides: &[bool] = if self.spec.split_local_origin { &[false, true] } else { &[false] };
            for local in sides {
                let mut rates = Vec::new();
                for (at, host) in self.hosts.iter().filter(|(_, h)| h.until.is_none()) {
                    let seen = host.interval.iter().filter(|s| *local || **s != 0);
                    let bad = |s: &&u16| if *local { **s == 0 } else { **s >= 500 };
                    let (total, failures) = (seen.clone().count() as u64, seen.filter(bad).count() as u64);
                    rates.push((*at, Rate { total, failures }));
                }
                // Which are outliers is compared with worked examples in `rates`.
                let plain: Vec<Rate> = rates.iter().map(|(_, rate)| *rate).collect();
                for (place, _) in outliers(&plain, &self.spec.detectors) {
                    self.eject(rates[place].0, now);
                }
            }
            self.hosts.values_mut().for_each(|host| host.interval.clear());
        }
    }

    fn group(spec: &OutlierDetection, hosts: u128) -> Arc<Group> {
        let cluster = Cluster { outlier: Some(Box::new(spec.clone())), ..Cluster::default() };
        let member = |n: u128| {
            let host = Host { host: format!("10.0.0.{n}").into(), port: 80 };
            Member { id: Id::from_u128(n), endpoint: Arc::new(Endpoint { host, ..Endpoint::default() }) }
        };
        Group::new(Id::nil(), Arc::new(cluster), (1..=hosts).map(member).collect(), 1, Tick(0))
    }

    /// A pick of each member.
    fn picks(group: &Arc<Group>, hosts: u128) -> BTreeMap<u128, Picked> {
        let mut picker = group.picker(Box::new(SeededRng::new(2)));
        let mut picks = BTreeMap::new();
        while picks.len() < hosts as usize {
            let picked = picker.pick(&PickInput::default()).unwrap();
            picks.insert(picked.endpoint().as_u128(), picked);
        }
        picks
    }

    fn ejected(group: &Group) -> Vec<u128> {
        let members = group.status().members;
        let of = |m: &&crate::MemberStatus| m.addresses.iter().any(|a| a.ejection.is_some());
        members.iter().filter(of).map(|m| m.endpoint.as_u128()).collect()
    }

    fn spec() -> impl Strategy<Value = OutlierDetection> {
        let detectors = (0_u32..4, 0_u32..4, 0_u32..4, any::<bool>(), any::<bool>());
        (detectors, 0_u32..=100, any::<bool>(), 1_u64..400).prop_map(
            |((total, gateway, local_origin, rate, share), max_ejection_percent, split_local_origin, base)| {
                let rate = rate.then_some(SuccessRate { minimum_hosts: 2, request_volume: 3, stdev_factor: 0.9 });
                let percentage = FailurePercentage { minimum_hosts: 1, request_volume: 3, threshold_percent: 60 };
                OutlierDetection {
                    interval_ms: 100,
                    base_ejection_ms: base,
                    max_ejection_ms: base * 3,
                    // 0 forbids even the first, which the model does not know.
                    max_ejection_percent: max_ejection_percent.max(1),
                    split_local_origin,
                    detectors: Detectors {
                        // A row that is ejected by one detector and not by another is not in the model.
                        total: if gateway > 0 { 0 } else { total },
                        gateway,
                        local_origin,
                        success_rate: rate,
                        failure_percentage: share.then_some(percentage),
                    },
                    ..OutlierDetection::default()
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_group_ejects_what_the_model_ejects(spec in spec(), hosts in 1_u128..8, seed in any::<u64>()) {
            let group = group(&spec, hosts);
            let picks = picks(&group, hosts);
            let naive = (1..=hosts).map(|n| (n, Naive::default())).collect();
            let mut model = Model { spec: spec.clone(), hosts: naive };
            let mut rng = SeededRng::new(seed);
            let (mut now, mut next) = (0, 100);
            for _ in 0..400 {
                if rng.below(8) == 0 {
                    now += rng.below(60);
                }
                if now >= next {
                    group.evaluate(Tick::from_millis(now));
                    model.interval(now);
                    next = now + 100;
                    prop_assert_eq!(group.next_due(Tick::from_millis(now)), Some(Tick::from_millis(next)));
                }
                let host = 1 + u128::from(rng.below(hosts as u64));
                // Some hosts are worse than others.
                let outcome = match rng.below(4 + 2 * (host as u64 % 4)) {
                    0 => Outcome::Status(500),
                    1 => Outcome::Status(503),
                    2 => Outcome::TcpFailure,
                    3 => Outcome::Timeout,
                    _ => Outcome::Status(200),
                };
                group.report(&picks[&host], outcome, Tick::from_millis(now));
                model.outcome(host, outcome, now);
                let expect: Vec<u128> = model.hosts.iter().filter(|(_, h)| h.until.is_some()).map(|(at, _)| *at).collect();
                prop_assert_eq!(ejected(&group), expect.clone(), "at {}", now);
                let most = (hosts as u64 * u64::from(spec.max_ejection_percent) / 100).max(1);
                prop_assert!(expect.len() as u64 <= most, "{} of {}", expect.len(), hosts);
            }
            // All return by themselves.
            for _ in 0..40 {
                now += 100;
                group.evaluate(Tick::from_millis(now));
            }
            prop_assert_eq!(ejected(&group), Vec::<u128>::new());
            let events = group.take_events();
            let count = |is: fn(&Event) -> bool| events.iter().filter(|e| is(e)).count() as u64;
            let made = count(|e| matches!(e, Event::Ejected { .. }));
            prop_assert_eq!(made, count(|e| matches!(e, Event::Returned { .. })));
            let counts = group.status().ejections.unwrap();
            prop_assert_eq!(counts.made.iter().map(|(_, n)| n).sum::<u64>(), made);
        }
    }
}
