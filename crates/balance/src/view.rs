//! What picks look at: an immutable picture of the group, replaced as a whole when members, addresses or settings
//! change. Health is not in it; it is in the atomics that the picture points to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use cardinal_base::Rng;
use cardinal_ir::policy::OutlierDetection;
use cardinal_ir::{Algorithm, Cluster, Id};

use crate::health::Checks;
use crate::limits::ClusterLimits;
use crate::peer::Peer;
use crate::ring::{Owner, Ring};
use crate::spread::{Part, spread};
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

    /// How addresses are ejected, if they are.
    pub(crate) fn outlier(&self) -> Option<&OutlierDetection> {
        self.spec.outlier.as_deref().filter(|outlier| outlier.enabled)
    }
}

/// One address that may be picked.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) peer: Arc<Peer>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) limits: Option<Arc<ClusterLimits>>,
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
        self.peer.available()
    }
}

/// The picture: members by priority, and within a priority by affinity.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) version: u64,
    /// Names are still to be resolved and there is not one address.
    pub(crate) unresolved: bool,
    pub(crate) vacancy: Vacancy,
    pub(crate) limits: Option<Arc<ClusterLimits>>,
    /// In the order of priority.
    pub(crate) tiers: Box<[Tier]>,
    /// The index of the tier that gets all requests, [`SERVING_NONE`] or [`SERVING_SPLIT`].
    serving: AtomicUsize,
}

/// No tier serves.
pub(crate) const SERVING_NONE: usize = usize::MAX;
/// Several tiers serve, each as far as its [`Tier::upto`] goes.
pub(crate) const SERVING_SPLIT: usize = usize::MAX - 1;
/// All requests, in the unit of [`Tier::upto`].
pub(crate) const WHOLE: u32 = 1 << 24;

impl View {
    pub(crate) fn new(version: u64, unresolved: bool, vacancy: Vacancy, tiers: Vec<Tier>) -> Self {
        let serving = AtomicUsize::new(SERVING_NONE);
        Self { version, unresolved, vacancy, limits: None, tiers: tiers.into(), serving }
    }

    /// The index of the tier that gets all requests, [`SERVING_NONE`] or [`SERVING_SPLIT`].
    pub(crate) fn serving(&self) -> usize {
        self.serving.load(Ordering::Relaxed)
    }

    /// Whether a tier uses all its addresses, available or not.
    pub(crate) fn panics(&self) -> bool {
        self.tiers.iter().any(Tier::panics)
    }

    /// Decides which tiers serve.
    pub(crate) fn judge(&self, spec: &Cluster) {
        let serving = match &spec.locality {
            None => self.first_available(spec.health.threshold_percent),
            Some(policy) => {
                let parts: Vec<Part> = self.tiers.iter().map(Tier::part).collect();
                let shares = spread(&parts, policy);
                let (mut sum, mut last) = (0.0, SERVING_NONE);
                let serve = shares.iter().filter(|share| share.share > 0.0).count();
                for (at, (tier, share)) in self.tiers.iter().zip(&shares).enumerate() {
                    sum += share.share;
                    last = if share.share > 0.0 { at } else { last };
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to WHOLE")]
                    let upto = (sum.min(1.0) * f64::from(WHOLE)).round() as u32;
                    tier.upto.store(upto, Ordering::Relaxed);
                    tier.panic.store(share.panic && share.share > 0.0, Ordering::Relaxed);
                }
                if serve > 1 { SERVING_SPLIT } else { last }
            }
        };
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// The first tier that has an available address, if enough of it is available.
    fn first_available(&self, threshold_percent: f64) -> usize {
        self.tiers.iter().for_each(|tier| tier.panic.store(false, Ordering::Relaxed));
        let first = self.tiers.iter().position(Tier::any_available);
        let serves = |at: &usize| self.tiers.get(*at).is_some_and(|tier| tier.serves(threshold_percent));
        first.filter(serves).unwrap_or(SERVING_NONE)
    }

    /// The tier that a point below [`WHOLE`] falls to.
    pub(crate) fn tier_at(&self, point: u32) -> Option<usize> {
        self.tiers.iter().position(|tier| point < tier.upto.load(Ordering::Relaxed))
    }

    /// The tiers that get requests, while several do.
    pub(crate) fn split(&self) -> impl Iterator<Item = (usize, &Tier)> {
        let mut before = 0;
        self.tiers.iter().enumerate().filter(move |(_, tier)| {
            let upto = tier.upto.load(Ordering::Relaxed);
            std::mem::replace(&mut before, upto) < upto
        })
    }
}

/// Why a group has no address to pick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vacancy {
    /// The group has no members.
    NoMembers,
    /// The cluster has members, but none that this node may use: of the subset, or by the locality policy.
    NoneEligible,
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

    /// `members` are those of the subset, `any` is whether the cluster has any.
    pub(crate) fn of(members: &[&MemberState], any: bool) -> Self {
        if members.is_empty() {
            return if any { Self::NoneEligible } else { Self::NoMembers };
        }
        let weighted = |m: &&MemberState| m.endpoint.weight > 0;
        let failed = members.iter().copied().filter(weighted).filter_map(|m| match &m.resolution {
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
        } else if !has_share && !members.iter().any(weighted) {
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
    /// The priority, from 0 without gaps.
    pub(crate) level: u32,
    /// The weight within the priority.
    pub(crate) weight: u32,
    /// The end of its share and of those of the tiers before it, of [`WHOLE`].
    upto: AtomicU32,
    panic: AtomicBool,
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
    pub(crate) fn new(
        spec: &Cluster,
        (level, weight): (u32, u32),
        candidates: Vec<Arc<Candidate>>,
        targets: usize,
        rng: &mut dyn Rng,
    ) -> Self {
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
        let (upto, panic) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { candidates: candidates.into(), index, level, weight, upto, panic }
    }

    /// Whether all its addresses are used, available or not.
    pub(crate) fn panics(&self) -> bool {
        self.panic.load(Ordering::Relaxed)
    }

    fn part(&self) -> Part {
        let available = self.candidates.iter().filter(|c| c.available()).count();
        Part {
            level: self.level,
            weight: self.weight,
            total: self.candidates.len() as u64,
            available: available as u64,
        }
    }

    /// Whether the tier may serve: strictly more than the threshold of its weight is available.
    fn serves(&self, threshold_percent: f64) -> bool {
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
    fn any_available(&self) -> bool {
        self.candidates.iter().any(|c| c.available())
    }
}

fn turns(candidates: &[Arc<Candidate>], slots: u32, rng: &mut dyn Rng) -> Box<[u32]> {
    let shares: Vec<u64> = candidates.iter().map(|c| c.share).collect();
    wheel::build(&shares, slots, rng)
}
