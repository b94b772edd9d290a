//! Changes of configuration and of DNS answers, and what APIs show.

use super::*;
use crate::health::Signal;
use crate::{Event, HealthChecksOff, NameFailure, Observed, Outcome, ResolvedAddr, State, Vacancy, Weights};

fn plain(text: &str) -> ResolvedAddr {
    ResolvedAddr::plain(addr(text))
}

fn srv(text: &str, weight: u32, priority: u16, shared_by: u32) -> ResolvedAddr {
    ResolvedAddr {
        addr: addr(text),
        weight: Some(weight),
        priority,
        srv_target: Some("node.example".into()),
        shared_by,
    }
}

fn not_found() -> NameFailure {
    NameFailure { shown: "dns server error: 3 name error".into(), reason: "NXDOMAIN".into() }
}

#[test]
fn a_group_without_addresses_says_why() {
    let empty = group(spec(Algorithm::RoundRobin), vec![]);
    assert_eq!(empty.vacancy(), Vacancy::NoMembers);
    let idle = group(spec(Algorithm::RoundRobin), vec![member(1, "10.0.0.1", 80, 0), member(2, "a.example", 80, 0)]);
    assert_eq!(idle.vacancy(), Vacancy::NoWeight);
    idle.set_addresses(id(2), Err(not_found()), Tick(0));
    assert_eq!(idle.vacancy(), Vacancy::NoWeight);
    let members = (1..=6).map(|i| member(i, &format!("{i}.example"), 80, 10)).collect();
    let many = group(spec(Algorithm::RoundRobin), members);
    assert_eq!(many.vacancy(), Vacancy::Unhealthy);
    for i in 1..=6 {
        many.set_addresses(id(i), Err(not_found()), Tick(0));
    }
    let shown = "1.example: NXDOMAIN; 2.example: NXDOMAIN; 3.example: NXDOMAIN; 4.example: NXDOMAIN; and 2 more";
    assert_eq!(many.vacancy(), Vacancy::Unresolved(shown.into()));
}

#[test]
fn names_that_stop_resolving_are_told_on_change() {
    let group = group(spec(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10), member(2, "10.0.0.5", 80, 10)]);
    let told = |answer: Result<Vec<ResolvedAddr>, &str>, at_s: u64| {
        let failure = |reason: &str| NameFailure { shown: "any".into(), reason: reason.into() };
        group.set_addresses(id(1), answer.map_err(failure), Tick(at_s * 1_000_000));
        let name = |event| match event {
            Event::Name { failure, .. } => failure.map_or_else(|| "resolves".to_owned(), String::from),
            other => panic!("{other:?}"),
        };
        group.take_events().into_iter().map(name).collect::<Vec<_>>()
    };
    assert!(told(Ok(vec![plain("10.0.0.9:80")]), 0).is_empty());
    assert_eq!(told(Err("NXDOMAIN"), 1), ["NXDOMAIN"]);
    assert!(told(Err("NXDOMAIN"), 30).is_empty());
    assert_eq!(told(Err("timeout"), 31), ["timeout"]);
    assert!(told(Err("SERVFAIL"), 32).is_empty(), "too soon");
    assert_eq!(told(Ok(vec![plain("10.0.0.9:80")]), 33), ["resolves"]);
    assert_eq!(told(Err("SERVFAIL"), 34), ["SERVFAIL"]);
}

#[test]
fn names_wait_for_their_addresses() {
    let group = group(spec(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10)]);
    let mut picker = picker(&group);
    assert_eq!(group.names(), [(id(1), Host { host: "a.example".into(), port: 80 })]);
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unresolved));
    group.set_addresses(id(1), Ok(vec![plain("10.0.0.9:80")]), Tick(0));
    let picked = picker.pick(&PickInput::default()).unwrap();
    assert_eq!(
        (picked.address(), picked.host(), picked.host_header()),
        (addr("10.0.0.9:80"), "a.example", "a.example")
    );
    group.set_addresses(id(1), Err(not_found()), Tick(0));
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    let status = group.status();
    assert_eq!((status.members[0].state, &*status.members[0].dns), (State::DnsError, "dns server error: 3 name error"));
}

#[test]
fn each_address_of_a_name_gets_the_weight() {
    let group = group(spec(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10), member(2, "10.0.0.5", 80, 10)]);
    group.set_addresses(id(1), Ok(vec![plain("10.0.0.1:80"), plain("10.0.0.2:80")]), Tick(0));
    assert_eq!(tally(&mut picker(&group), 2, 30), [20, 10]);
    assert_eq!(group.status().members[0].weight.total, 20);
}

#[test]
fn srv_records_bring_weights_and_only_the_lowest_priority_counts() {
    let group = group(spec(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10)]);
    let answer = vec![srv("10.0.0.1:81", 30, 1, 1), srv("10.0.0.2:82", 0, 1, 1), srv("10.0.0.3:83", 5, 2, 1)];
    group.set_addresses(id(1), Ok(answer), Tick(0));
    let status = &group.status().members[0];
    assert_eq!(status.weight, Weights { total: 31, available: 31, unavailable: 0 });
    assert_eq!(status.dns, "SRV");
    assert_eq!(status.addresses.len(), 2);
}

#[test]
fn addresses_of_one_srv_target_share_its_weight() {
    let group = group(spec(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10), member(2, "10.0.0.5", 80, 10)]);
    let answer = vec![srv("10.0.0.1:81", 10, 1, 3), srv("10.0.0.2:81", 10, 1, 3), srv("10.0.0.3:81", 10, 1, 3)];
    group.set_addresses(id(1), Ok(answer), Tick(0));
    assert_eq!(tally(&mut picker(&group), 2, 60), [30, 30]);
}

#[test]
fn the_srv_target_is_the_host_when_asked_for_and_an_override_beats_it() {
    let mut wanted = spec(Algorithm::RoundRobin);
    wanted.use_srv_name = true;
    let group = group(wanted.clone(), vec![member(1, "a.example", 80, 10)]);
    group.set_addresses(id(1), Ok(vec![srv("10.0.0.1:81", 1, 1, 1)]), Tick(0));
    let mut picker = picker(&group);
    assert_eq!(picker.pick(&PickInput::default()).unwrap().host_header(), "node.example");
    wanted.host_header = Some("api.example".into());
    group.update(Arc::new(wanted), vec![member(1, "a.example", 80, 10)], Tick(0));
    let picked = picker.pick(&PickInput::default()).unwrap();
    assert_eq!((picked.host(), picked.host_header()), ("node.example", "api.example"));
}

#[test]
fn an_update_keeps_the_state_of_addresses_that_stay() {
    let group = group(checked(Algorithm::LeastConnections), members(&[10, 10, 10]));
    let mut picker = picker(&group);
    group.set_health(id(1), None, false, Tick(0)).unwrap();
    let held = picker.pick(&PickInput::default()).unwrap();
    let holder = held.endpoint();
    let key = held.key();
    // One bad status of three: counted on.
    group.report(&held, Outcome::Status(500), Tick(0));
    group.update(Arc::new(checked(Algorithm::LeastConnections)), members(&[10, 20, 30, 40]), Tick(0));
    let status = group.status();
    assert_eq!(status.members[0].state, State::Unhealthy);
    let of_holder = status.members.iter().find(|m| m.endpoint == holder).unwrap();
    assert_eq!(of_holder.addresses[0].connections, 1);
    assert_eq!(key_of(&mut picker, holder.as_u128()), key);
    group.report(&held, Outcome::Status(500), Tick(0));
    group.report(&held, Outcome::Status(500), Tick(0));
    let state = |n: Id| group.status().members.iter().find(|m| m.endpoint == n).unwrap().state;
    assert_eq!(state(holder), State::Unhealthy);
    assert_eq!(state(id(4)), State::Healthy);
}

#[test]
fn an_address_that_went_and_came_back_starts_healthy() {
    let group = group(checked(Algorithm::RoundRobin), vec![member(1, "a.example", 80, 10)]);
    group.set_addresses(id(1), Ok(vec![plain("10.0.0.1:80"), plain("10.0.0.2:80")]), Tick(0));
    let one = Some(addr("10.0.0.1:80"));
    group.set_health(id(1), one, false, Tick(0)).unwrap();
    assert_eq!(group.status().members[0].weight, Weights { total: 20, available: 10, unavailable: 10 });
    group.set_addresses(id(1), Ok(vec![plain("10.0.0.2:80")]), Tick(0));
    group.set_addresses(id(1), Ok(vec![plain("10.0.0.1:80"), plain("10.0.0.2:80")]), Tick(0));
    assert_eq!(group.status().members[0].weight.available, 20);
}

#[test]
fn without_checks_nothing_is_judged() {
    let group = group(spec(Algorithm::RoundRobin), members(&[10]));
    let mut picker = picker(&group);
    let picked = picker.pick(&PickInput::default()).unwrap();
    for _ in 0..300 {
        group.report(&picked, Outcome::TcpFailure, Tick(0));
    }
    assert!(pick(&mut picker, &PickInput::default()).is_ok());
    assert_eq!(group.set_health(id(1), None, false, Tick(0)), Err(HealthChecksOff));
    let status = group.status();
    assert_eq!(
        (status.state, status.members[0].state, status.serves),
        (State::HealthChecksOff, State::HealthChecksOff, true)
    );
}

#[test]
fn checks_switched_off_forgive() {
    let group = group(checked(Algorithm::RoundRobin), members(&[10]));
    group.set_health(id(1), None, false, Tick(0)).unwrap();
    let mut picker = picker(&group);
    assert_eq!(pick(&mut picker, &PickInput::default()), Err(NoHealthyEndpoint::Unhealthy));
    group.update(Arc::new(spec(Algorithm::RoundRobin)), members(&[10]), Tick(0));
    assert_eq!(pick(&mut picker, &PickInput::default()), Ok(1));
}

#[test]
fn a_late_report_does_not_judge_where_checks_are_off_now() {
    let group = group(checked(Algorithm::RoundRobin), members(&[10]));
    let mut picker = picker(&group);
    let picked = picker.pick(&PickInput::default()).unwrap();
    group.update(Arc::new(spec(Algorithm::RoundRobin)), members(&[10]), Tick(0));
    group.report(&picked, Outcome::TcpFailure, Tick(0));
    assert_eq!(pick(&mut picker, &PickInput::default()), Ok(1));
    assert_eq!(group.take_events(), []);
}

#[test]
fn changes_of_verdict_are_told_once() {
    let group = group(checked(Algorithm::RoundRobin), members(&[10]));
    let picked = picker(&group).pick(&PickInput::default()).unwrap();
    assert_eq!(group.take_events(), []);
    group.report_with(&picked, Outcome::TcpFailure, Some(&"reset"), Tick(0));
    group.report_with(&picked, Outcome::TcpFailure, Some(&"refused"), Tick(0));
    let address = Event::Address {
        endpoint: id(1),
        host: "10.0.0.1".into(),
        address: addr("10.0.0.1:80"),
        healthy: false,
        cause: "traffic",
        observed: Some(Observed { signal: Signal::Tcp, status: None, count: 1, detail: Some("reset".into()) }),
    };
    assert_eq!(group.take_events(), [address, Event::Group { healthy: false }]);
    assert_eq!(group.take_events(), []);
}

#[test]
fn a_504_counts_as_a_timeout() {
    let group = group(checked(Algorithm::RoundRobin), members(&[10]));
    let picked = picker(&group).pick(&PickInput::default()).unwrap();
    group.report(&picked, Outcome::Status(504), Tick(0));
    assert_eq!(group.status().members[0].state, State::Healthy);
    group.report(&picked, Outcome::Timeout, Tick(0));
    assert_eq!(group.status().members[0].state, State::Unhealthy);
}

#[test]
fn a_plain_host_is_a_group_too() {
    let host = Host { host: "::1".into(), port: 8080 };
    let group = Group::of_host(id(5), &host, 1, Tick(0));
    let picked = picker(&group).pick(&PickInput::default()).unwrap();
    assert_eq!((picked.address(), picked.host()), (addr("[::1]:8080"), "::1"));
    assert_eq!(group.status().members[0].host, "[::1]");
}

#[test]
fn workers_pick_while_the_group_changes() {
    let group = group(checked(Algorithm::LeastConnections), members(&[10, 10, 10]));
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let mut picker = group.picker(Box::new(SeededRng::new(seed)));
            let group = &group;
            scope.spawn(move || {
                for i in 0..3_000_u64 {
                    if let Ok(picked) = picker.pick(&PickInput { now: Tick(i), ..PickInput::default() }) {
                        let outcome = if i % 7 == 0 { Outcome::TcpFailure } else { Outcome::Status(200) };
                        group.report(&picked, outcome, Tick(i));
                    }
                }
            });
        }
        for round in 0..200_u32 {
            group.update(Arc::new(checked(Algorithm::LeastConnections)), members(&[10, 10 + round, 10]), Tick(0));
            group.set_health(id(u128::from(round % 3) + 1), None, true, Tick(0)).unwrap();
        }
    });
    let status = group.status();
    assert!(status.members.iter().all(|m| m.addresses[0].connections == 0), "{status:?}");
    // The verdict of the group is the one that its addresses' verdicts make.
    assert_eq!(status.serves, status.weight.available > 0);
}
