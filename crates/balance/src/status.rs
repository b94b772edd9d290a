//! What APIs and metrics show of a group: the shape behind Kong's `/upstreams/{upstream}/health`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardinal_ir::Id;

use crate::group::Group;
use crate::limits::LimitKind;
use crate::outlier::{Detector, Ejection};
use crate::place::NodePlace;
use crate::state::{MemberState, Resolution};
use crate::view::{Candidate, SERVING_NONE};

/// State of a member or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// May be picked.
    Healthy,
    /// May not.
    Unhealthy,
    /// Nothing judges it, so it may be picked.
    HealthChecksOff,
    /// The name has no addresses.
    DnsError,
}

impl State {
    /// As Kong's Admin API spells it; metrics use the same in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::HealthChecksOff => "HEALTHCHECKS_OFF",
            Self::DnsError => "DNS_ERROR",
        }
    }
}

/// Sums of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Of all addresses.
    pub total: u64,
    /// Of the healthy ones.
    pub available: u64,
    /// Of the others.
    pub unavailable: u64,
}

/// A group as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupStatus {
    /// The group.
    pub id: Id,
    /// The verdict, or that there is none.
    pub state: State,
    /// Whether it serves, checks or not.
    pub serves: bool,
    /// Weights of its addresses.
    pub weight: Weights,
    /// Its members.
    pub members: Vec<MemberStatus>,
    /// A priority uses all its addresses, available or not.
    pub panics: bool,
    /// Ejections ever, by detector; `None` without outlier detection.
    pub ejections: Option<Box<EjectionCounts>>,
    /// Its limits; empty without any.
    pub limits: Vec<LimitStatus>,
}

/// Ejections of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EjectionCounts {
    /// Ever, by detector.
    pub made: Vec<(Detector, u64)>,
    /// Ejections that the limit on ejected addresses prevented, ever.
    pub prevented: u64,
    /// Addresses that are ejected now.
    pub active: u64,
}

/// A limit of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// What is limited.
    pub kind: LimitKind,
    /// The limit; `None` when there is none.
    pub max: Option<u32>,
    /// Of it, used now.
    pub used: u64,
    /// What was rejected because of it, ever.
    pub rejected: u64,
}

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    /// The member.
    pub endpoint: Id,
    /// Its name; IPv6 in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The verdict: healthy when any address is.
    pub state: State,
    /// Where the addresses come from: `A`, `AAAA`, `SRV`, `unknown`, or why there are none.
    pub dns: String,
    /// Weight of each of its addresses, unless DNS gives another.
    pub node_weight: u32,
    /// Its priority for this node, from 0 without gaps; `None` when this node does not use it.
    pub priority: Option<u32>,
    /// Where it is, and its labels.
    pub place: NodePlace,
    /// Weights of its addresses.
    pub weight: Weights,
    /// Its addresses.
    pub addresses: Vec<AddressStatus>,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressStatus {
    /// The address.
    pub address: SocketAddr,
    /// Target of the SRV record that led here, if one did.
    pub srv_target: Option<Arc<str>>,
    /// Its weight.
    pub weight: u64,
    /// The verdict.
    pub state: State,
    /// Requests in progress; counted only while the group balances by connections.
    pub connections: u32,
    /// Its ejection, while it is ejected.
    pub ejection: Option<Ejection>,
}

impl Group {
    /// The present state. Takes the group's lock.
    pub fn status(&self) -> GroupStatus {
        let state = self.lock();
        let view = self.view();
        let (serves, panics) = (view.serving() != SERVING_NONE, view.panics());
        let checked = state.settings.checks.enabled;
        let levels = state.levels();
        let within = |m: &MemberState| self.subset_labels().is_none_or(|l| m.endpoint.labels.contains_all(l));
        let members = state.members.iter().zip(levels).filter(|(m, _)| within(m));
        let members: Vec<MemberStatus> = members.map(|(m, level)| member(m, checked, level)).collect();
        let weight = members.iter().fold(Weights::default(), |sum, m| Weights {
            total: sum.total + m.weight.total,
            available: sum.available + m.weight.available,
            unavailable: sum.unavailable + m.weight.unavailable,
        });
        let ejections = state.settings.outlier().map(|_| {
            let made = Detector::ALL.into_iter().zip(state.ejections.made).collect();
            let prevented = state.ejections.room.prevented.load(Ordering::Relaxed);
            Box::new(EjectionCounts { made, prevented, active: state.ejections.active as u64 })
        });
        let of_kind = |kind: LimitKind| {
            let limit = state.limits.as_ref()?.get(kind);
            Some(LimitStatus { kind, max: limit.max(), used: limit.used(), rejected: limit.rejected() })
        };
        let limits = LimitKind::ALL.into_iter().filter_map(of_kind).collect();
        let state = match (checked, serves) {
            (false, _) => State::HealthChecksOff,
            (true, true) => State::Healthy,
            (true, false) => State::Unhealthy,
        };
        GroupStatus { id: self.id(), state, serves, weight, members, panics, ejections, limits }
    }
}

fn member(member: &MemberState, checked: bool, priority: Option<u32>) -> MemberStatus {
    let checked = checked && member.endpoint.weight > 0;
    let (dns, resolved) = match &member.resolution {
        Resolution::Pending => ("unknown".to_owned(), &[][..]),
        Resolution::Failed(failure) => (failure.to_string(), &[][..]),
        Resolution::Known(resolved) => {
            (resolved.first().map_or("unknown", |a| a.source()).to_owned(), resolved.as_slice())
        }
    };
    let mut weight = Weights::default();
    let mut addresses = Vec::with_capacity(member.candidates.len());
    for (candidate, resolved) in member.candidates.iter().zip(resolved) {
        let available = candidate.available();
        weight.total += candidate.weight;
        *(if available { &mut weight.available } else { &mut weight.unavailable }) += candidate.weight;
        addresses.push(address(candidate, resolved.srv_target.clone(), checked));
    }
    MemberStatus {
        endpoint: member.id,
        host: member.name(),
        port: member.endpoint.host.port,
        state: summary(&addresses),
        dns,
        node_weight: member.endpoint.weight,
        priority,
        place: NodePlace { locality: member.endpoint.locality.clone(), labels: member.endpoint.labels.clone() },
        weight,
        addresses,
    }
}

fn address(candidate: &Candidate, srv_target: Option<Arc<str>>, checked: bool) -> AddressStatus {
    AddressStatus {
        address: candidate.address,
        srv_target,
        weight: candidate.weight,
        state: match (checked, candidate.peer.health.available()) {
            (false, _) => State::HealthChecksOff,
            (true, true) => State::Healthy,
            (true, false) => State::Unhealthy,
        },
        connections: candidate.peer.connections.load(Ordering::Relaxed),
        ejection: candidate.peer.monitor.ejection(),
    }
}

/// A member is healthy when any of its addresses is.
fn summary(addresses: &[AddressStatus]) -> State {
    let has = |state| addresses.iter().any(|a| a.state == state);
    if addresses.is_empty() {
        State::DnsError
    } else if has(State::Healthy) {
        State::Healthy
    } else if has(State::Unhealthy) {
        State::Unhealthy
    } else {
        State::HealthChecksOff
    }
}
