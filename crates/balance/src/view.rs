//! What picks look at: an immutable picture of the group, replaced as a whole when members, addresses or settings
//! change. Health is not in it; it is in the atomics that the picture points to.

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_base::Rng;
use cardinal_ir::{Algorithm, Cluster, Id};

use crate::health::Checks;
use crate::peer::Peer;
use crate::ring::{Owner, Ring};
use crate::state::{MemberState, Resolution};
use crate::wheel;

/// Settings of a group with what is computed from them once.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) spec: Arc<Cluster>,
    pub(crate) checks: Checks,
}

impl Settings {
    pub(crate) fn new(spec: Arc<Cluster>) -> Self {
        let checks = Checks::new(&spec.health);
        Self { spec, checks }
    }
}

/// One address that may be picked.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) peer: Arc<Peer>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) endpoint: Id,
    pub(crate) address: SocketAddr,
    /// Name for Host and SNI.
    pub(crate) host: Arc<str>,
    /// The weight that the user or DNS gave.
    pub(crate) weight: u64,
    /// The weight that counts: `weight` in units fine enough to split an SRV record's weight among its addresses.
    pub(crate) share: u64,
    /// Names this address in a sticky cookie.
    pub(crate) cookie: Box<str>,
    /// Name on the hash ring.
    pub(crate) ring_name: Box<str>,
    pub(crate) port: u16,
}

impl Candidate {
    pub(crate) fn available(&self) -> bool {
        self.peer.health.available()
    }
}

/// The picture. Tier 0 are the normal members, tier 1 the failover members.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) version: u64,
    /// Names are still to be resolved and there is not one address.
    pub(crate) unresolved: bool,
    pub(crate) vacancy: Vacancy,
    pub(crate) tiers: [Tier; 2],
}

/// Why a group has no address to pick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vacancy {
    /// The group has no members.
    NoMembers,
    /// All members have weight 0.
    NoWeight,
    /// Every member with a weight has addresses, or is still being resolved; too few addresses are healthy.
    Unhealthy,
    /// Names of members do not resolve; the text lists them with the reasons.
    Unresolved(Arc<str>),
}

impl Vacancy {
    /// Names in [`Vacancy::Unresolved`].
    const NAMES_SHOWN_MAX: usize = 4;

    pub(crate) fn of(members: &[MemberState]) -> Self {
        if members.is_empty() {
            return Self::NoMembers;
        }
        let weighted = |m: &&MemberState| m.endpoint.weight > 0;
        let failed = members.iter().filter(weighted).filter_map(|m| match &m.resolution {
            Resolution::Failed(failure) => Some((m, failure)),
            Resolution::Pending | Resolution::Known(_) => None,
        });
        let mut shown: Vec<String> = failed
            .clone()
            .take(Self::NAMES_SHOWN_MAX)
            .map(|(m, failure)| format!("{}: {}", m.host, failure.reason))
            .collect();
        let hidden = failed.count().saturating_sub(Self::NAMES_SHOWN_MAX);
        if hidden > 0 {
            shown.push(format!("and {hidden} more"));
        }
        // The weights of SRV records count instead of the member's.
        let has_share = members.iter().any(|m| m.candidates.iter().any(|c| c.share > 0));
        if !shown.is_empty() {
            Self::Unresolved(shown.join("; ").into())
        } else if !has_share && !members.iter().any(|m| weighted(&m)) {
            Self::NoWeight
        } else {
            Self::Unhealthy
        }
    }
}

/// Members that are picked among.
#[derive(Debug)]
pub(crate) struct Tier {
    /// Each with a share above zero, in ring order.
    pub(crate) candidates: Box<[Arc<Candidate>]>,
    pub(crate) index: Index,
}

/// What the algorithm looks up.
#[derive(Debug)]
pub(crate) enum Index {
    /// Turns, as indexes into the candidates.
    Wheel(Box<[u32]>),
    /// Turns, and the candidates by cookie.
    Sticky {
        wheel: Box<[u32]>,
        by_cookie: Box<[u32]>,
    },
    Ring(Ring),
    LeastConnections,
    Latency,
}

impl Tier {
    /// `targets` counts the tier's members, those without an address included.
    pub(crate) fn new(spec: &Cluster, candidates: Vec<Arc<Candidate>>, targets: usize, rng: &mut dyn Rng) -> Self {
        let index = match &spec.algorithm {
            Algorithm::RoundRobin => Index::Wheel(turns(&candidates, spec.slots, rng)),
            Algorithm::Sticky { .. } => {
                let mut by_cookie: Vec<u32> = (0_u32..).take(candidates.len()).collect();
                let cookie = |i: &u32| candidates.get(*i as usize).map(|c| &c.cookie);
                by_cookie.sort_by(|a, b| cookie(a).cmp(&cookie(b)));
                Index::Sticky { wheel: turns(&candidates, spec.slots, rng), by_cookie: by_cookie.into() }
            }
            Algorithm::ConsistentHashing => {
                let owners: Vec<Owner> = candidates
                    .iter()
                    .map(|c| Owner { name: c.ring_name.clone(), port: c.port, weight: c.share })
                    .collect();
                Index::Ring(Ring::new(&owners, targets, spec.slots))
            }
            Algorithm::LeastConnections => Index::LeastConnections,
            Algorithm::Latency => Index::Latency,
        };
        Self { candidates: candidates.into(), index }
    }

    /// Whether the tier may serve: strictly more than the threshold of its weight is available.
    pub(crate) fn serves(&self, threshold_percent: f64) -> bool {
        let (available, total) = self.weights();
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = available as f64 / total as f64 * 100.0;
        total > 0 && percent > threshold_percent
    }

    /// Available and total share.
    fn weights(&self) -> (u128, u128) {
        self.candidates.iter().fold((0, 0), |(available, total), c| {
            let share = u128::from(c.share);
            (available + if c.available() { share } else { 0 }, total + share)
        })
    }

    /// Whether any of it is healthy.
    pub(crate) fn any_available(&self) -> bool {
        self.candidates.iter().any(|c| c.available())
    }
}

fn turns(candidates: &[Arc<Candidate>], slots: u32, rng: &mut dyn Rng) -> Box<[u32]> {
    let shares: Vec<u64> = candidates.iter().map(|c| c.share).collect();
    wheel::build(&shares, slots, rng)
}
