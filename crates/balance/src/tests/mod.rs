//! Groups from the outside.

mod algorithms;
mod config;
mod ejections;
mod limits;
mod localities;
mod probing;
mod retries;
mod subsets;

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::{SeededRng, Tick};
use cardinal_ir::{Active, Algorithm, Cluster, Counts, Endpoint, HashInput, HealthChecks, Host, Id, Origin, Passive};

use crate::{AddressKey, Group, Member, NoHealthyEndpoint, PickInput, Picker};

fn id(n: u128) -> Id {
    Id::from_u128(n)
}

fn spec(algorithm: Algorithm) -> Cluster {
    Cluster {
        origin: Origin::default(),
        algorithm,
        slots: 10_000,
        hash_on: HashInput::None,
        hash_fallback: HashInput::None,
        health: HealthChecks::default(),
        document: "{}".into(),
        ..Cluster::default()
    }
}

/// Passive checks that one TCP failure or three bad statuses turn, and active ones that two successes turn back.
fn checked(algorithm: Algorithm) -> Cluster {
    let counts = Counts {
        healthy_statuses: vec![200],
        successes: 2,
        unhealthy_statuses: vec![500, 503],
        tcp_failures: 1,
        timeouts: 2,
        http_failures: 3,
    };
    let active = Active { timeout_ms: 1_000, concurrency: 10, counts: counts.clone(), ..Active::default() };
    let passive = Passive { counts, ..Passive::default() };
    Cluster { health: HealthChecks { active, passive, threshold_percent: 0.0 }, ..spec(algorithm) }
}

fn member(n: u128, host: &str, port: u16, weight: u32) -> Member {
    let endpoint = Endpoint {
        origin: Origin::default(),
        cluster: id(1_000),
        host: Host { host: host.into(), port },
        weight,
        ..Endpoint::default()
    };
    Member { id: id(n), endpoint: Arc::new(endpoint) }
}

fn failover(n: u128, host: &str, port: u16, weight: u32) -> Member {
    let mut member = member(n, host, port, weight);
    Arc::make_mut(&mut member.endpoint).priority = 1;
    member
}

/// Members 1, 2, ... at 10.0.0.1, 10.0.0.2, ... with these weights.
fn members(weights: &[u32]) -> Vec<Member> {
    weights.iter().enumerate().map(|(i, w)| member(i as u128 + 1, &format!("10.0.0.{}", i + 1), 80, *w)).collect()
}

fn group(spec: Cluster, members: Vec<Member>) -> Arc<Group> {
    Group::new(id(1_000), Arc::new(spec), members, 7, Tick(0))
}

fn picker(group: &Arc<Group>) -> Picker {
    group.picker(Box::new(SeededRng::new(3)))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The member number of a pick.
fn pick(picker: &mut Picker, input: &PickInput<'_>) -> Result<u128, NoHealthyEndpoint> {
    picker.pick(input).map(|p| p.endpoint().as_u128())
}

/// Picks `rounds` times and counts the members.
fn tally(picker: &mut Picker, members: usize, rounds: usize) -> Vec<usize> {
    let mut counts = vec![0; members];
    for _ in 0..rounds {
        let member = pick(picker, &PickInput::default()).unwrap();
        counts[member as usize - 1] += 1;
    }
    counts
}

/// The key of a member's only address, found by trying out.
fn key_of(picker: &mut Picker, member: u128) -> AddressKey {
    let mut tried = Vec::new();
    loop {
        let picked = picker.pick(&PickInput { tried: &tried, ..PickInput::default() }).unwrap();
        if picked.endpoint().as_u128() == member {
            return picked.key();
        }
        assert!(!tried.contains(&picked.key()), "member {member} is never picked");
        tried.push(picked.key());
    }
}
