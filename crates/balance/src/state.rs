//! What the group's lock guards: members and what their names resolve to, peers, the probes' schedule, events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cardinal_base::{Rng, SeededRng, Tick};
use cardinal_ir::policy::SubsetFallback;
use cardinal_ir::{Active, Algorithm, Cluster, Endpoint, Host, Id, Labels};

use crate::address::ip_text;
use crate::event::Event;
use crate::group::{Group, Member};
use crate::limits::ClusterLimits;
use crate::outlier::Detector;
use crate::peer::Peer;
use crate::place::{NodePlace, Preference};
use crate::probes::Schedule;
use crate::view::{Candidate, Settings, Tier, Vacancy, View};
use crate::{AddressKey, NameFailure, ResolvedAddr, xxh32};

/// Events kept until they are read; the oldest go first.
const EVENTS_MAX: usize = 1_024;
/// Finest split of an SRV record's weight among its addresses: a number with many divisors.
const SCALE_MAX: u64 = 5_040;

/// Shortest time between events about the reason why one name does not resolve.
const REASON_PERIOD: Duration = Duration::from_secs(10);

/// The guarded state.
#[derive(Debug)]
pub(crate) struct State {
    rng: SeededRng,
    pub(crate) settings: Arc<Settings>,
    pub(crate) members: Vec<MemberState>,
    next_key: u64,
    /// `None` without probes.
    pub(crate) schedule: Option<Box<Schedule>>,
    events: VecDeque<Event>,
    /// The group of all members first, then those of subsets.
    pub(crate) groups: Vec<Weak<Group>>,
    /// Where the node is.
    pub(crate) place: Arc<NodePlace>,
    pub(crate) limits: Option<Arc<ClusterLimits>>,
    pub(crate) ejections: Ejections,
}

/// What is known of ejections beside the addresses themselves.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    /// When intervals end next; `None` while nothing is ejected by this policy.
    pub(crate) next: Option<Tick>,
    /// Ever, by detector in the order of [`Detector::ALL`].
    pub(crate) made: [u64; Detector::ALL.len()],
    /// Addresses, and how many of them are ejected.
    pub(crate) addresses: usize,
    pub(crate) active: usize,
    pub(crate) room: Arc<Room>,
}

/// What reports look at without the lock: while many addresses fail, most ejections are prevented.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// No address may be ejected.
    pub(crate) full: AtomicBool,
    /// Ejections that the limit on ejected addresses prevented, ever.
    pub(crate) prevented: AtomicU64,
}

/// Peers by member name and address, as Kong's health checker distinguishes them.
pub(crate) type Peers = HashMap<(Arc<str>, SocketAddr), Arc<Peer>>;

/// A member and its addresses.
#[derive(Debug)]
pub(crate) struct MemberState {
    pub(crate) id: Id,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) host: Arc<str>,
    pub(crate) resolution: Resolution,
    /// When an event last reported that the name does not resolve.
    pub(crate) failure_told: Option<Tick>,
    /// All addresses, those without weight included.
    pub(crate) candidates: Vec<Arc<Candidate>>,
}

/// What a member's name resolves to.
#[derive(Debug, PartialEq)]
pub(crate) enum Resolution {
    Pending,
    Known(Vec<ResolvedAddr>),
    Failed(NameFailure),
}

impl MemberState {
    pub(crate) fn new(member: Member) -> Self {
        let Host { host, port } = &member.endpoint.host;
        let resolution = match member.endpoint.host.ip() {
            Some(ip) => Resolution::Known(vec![ResolvedAddr::plain(SocketAddr::new(ip, *port))]),
            None => Resolution::Pending,
        };
        Self {
            id: member.id,
            host: Arc::from(&**host),
            endpoint: member.endpoint,
            resolution,
            failure_told: None,
            candidates: Vec::new(),
        }
    }

    /// Takes a new result of resolving the name, and creates an event: for each change between a name that
    /// resolves and one that does not, and for a new reason unless there was an event a short while ago.
    pub(crate) fn resolved(&mut self, resolution: Resolution, now: Tick) -> Option<Event> {
        let before = std::mem::replace(&mut self.resolution, resolution);
        let failure = match (&before, &self.resolution) {
            (Resolution::Failed(_), Resolution::Known(_)) => None,
            (Resolution::Failed(before), Resolution::Failed(failure)) => {
                let recent = self.failure_told.is_some_and(|told| now.since(told) < REASON_PERIOD);
                (before.reason != failure.reason && !recent).then_some(Some(failure.reason.clone()))?
            }
            (_, Resolution::Failed(failure)) => Some(failure.reason.clone()),
            (_, Resolution::Known(_) | Resolution::Pending) => return None,
        };
        if failure.is_some() {
            self.failure_told = Some(now);
        }
        Some(Event::Name { host: Arc::clone(&self.host), port: self.endpoint.host.port, failure })
    }

    /// The name as Kong sorts and shows it.
    pub(crate) fn name(&self) -> String {
        self.endpoint.host.ip().map_or_else(|| self.host.as_ref().to_owned(), ip_text)
    }
}

impl State {
    pub(crate) fn new(settings: Arc<Settings>, members: Vec<Member>, seed: u64, now: Tick) -> Self {
        let mut rng = SeededRng::new(seed);
        // Keys of different groups differ, so that a mix-up is found and not taken for another address.
        let next_key = rng.next_u64() << 32;
        Self {
            rng,
            schedule: schedule(None, &settings.spec.health.active, now),
            settings,
            members: members.into_iter().map(MemberState::new).collect(),
            next_key,
            events: VecDeque::new(),
            groups: Vec::new(),
            place: Arc::default(),
            limits: None,
            ejections: Ejections::default(),
        }
    }

    /// The state of each address that the group has.
    pub(crate) fn known(&self) -> Peers {
        let all = self.members.iter().flat_map(|m| m.candidates.iter().map(|c| ((Arc::clone(&m.host), c.address), c)));
        all.map(|(key, candidate)| (key, Arc::clone(&candidate.peer))).collect()
    }

    /// Makes the candidates anew from the members. Addresses that are among `peers` stay as they were.
    pub(crate) fn rebuild(&mut self, mut peers: Peers, now: Tick) {
        let scale = self.scale();
        let mut members = std::mem::take(&mut self.members);
        for member in &mut members {
            member.candidates = self.candidates(member, scale, &mut peers);
        }
        self.members = members;
        self.settle(now);
        self.count_ejections();
    }

    /// The picture of all members, or of those of a subset.
    pub(crate) fn view(&mut self, version: u64, subset: Option<&Labels>) -> View {
        let Self { members, settings, place, rng, limits, .. } = self;
        let spec = &settings.spec;
        let within = |m: &&MemberState| subset.is_none_or(|labels| m.endpoint.labels.contains_all(labels));
        let mut chosen: Vec<&MemberState> = members.iter().filter(within).collect();
        if chosen.is_empty() && spec.subset_fallback == SubsetFallback::AnyEndpoint {
            chosen = members.iter().collect();
        }
        let mut tiers: BTreeMap<Preference, Vec<&MemberState>> = BTreeMap::new();
        for member in &chosen {
            if let Some(preference) = Preference::of(&member.endpoint, spec, place) {
                tiers.entry(preference).or_default().push(member);
            }
        }
        let eligible: Vec<&MemberState> = tiers.values().flatten().copied().collect();
        let pending = eligible.iter().any(|m| matches!(m.resolution, Resolution::Pending));
        let empty = eligible.iter().all(|m| m.candidates.is_empty());
        let vacancy = Vacancy::of(&eligible, !members.is_empty());
        let (mut level, mut before) = (0, None);
        let tiers = tiers.into_iter().map(|(preference, members)| {
            let priority = (preference.zone, preference.priority);
            level += u32::from(before.is_some_and(|before| before != priority));
            before = Some(priority);
            tier(spec, (level, preference.weight), members, rng)
        });
        let mut view = View::new(version, empty && pending, vacancy, tiers.collect());
        view.limits = limits.as_ref().map(Arc::clone);
        view
    }

    /// The priority of each member, from 0 without gaps; `None` for one that this node does not use.
    pub(crate) fn levels(&self) -> Vec<Option<u32>> {
        let of = |m: &MemberState| Preference::of(&m.endpoint, &self.settings.spec, &self.place);
        let own: Vec<_> = self.members.iter().map(|m| of(m).map(|p| (p.zone, p.priority))).collect();
        let all: BTreeSet<_> = own.iter().flatten().copied().collect();
        let level: BTreeMap<_, u32> = all.into_iter().zip(0..).collect();
        own.iter().map(|priority| level.get(priority.as_ref()?).copied()).collect()
    }

    /// Each address once, of those that may get requests.
    pub(crate) fn addresses(&self) -> Vec<Arc<Candidate>> {
        let mut seen = HashSet::new();
        let all = self.members.iter().flat_map(|m| &m.candidates).filter(|c| c.share > 0);
        all.filter(|c| seen.insert(c.peer.key)).map(Arc::clone).collect()
    }

    /// The addresses' states.
    fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.members.iter().flat_map(|m| m.candidates.iter().map(|c| &c.peer))
    }

    /// Whether an address is still one of the group's.
    pub(crate) fn knows(&self, key: AddressKey) -> bool {
        self.peers().any(|peer| peer.key == key)
    }

    /// Takes the events.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// The unit of shares: the least common multiple of the ways in which weights are split.
    fn scale(&self) -> u64 {
        let splits = self.members.iter().flat_map(|m| match &m.resolution {
            Resolution::Known(addresses) => addresses.as_slice(),
            Resolution::Pending | Resolution::Failed(_) => &[],
        });
        splits.map(|a| u64::from(a.shared_by.max(1))).fold(1, |scale, split| {
            let (mut a, mut b) = (scale, split);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            let multiple = (scale / a).saturating_mul(split);
            if multiple > SCALE_MAX { SCALE_MAX } else { multiple }
        })
    }

    fn candidates(&mut self, member: &MemberState, scale: u64, peers: &mut Peers) -> Vec<Arc<Candidate>> {
        let Resolution::Known(addresses) = &member.resolution else { return Vec::new() };
        addresses.iter().map(|address| Arc::new(self.candidate(member, address, scale, peers))).collect()
    }

    fn candidate(&mut self, member: &MemberState, resolved: &ResolvedAddr, scale: u64, peers: &mut Peers) -> Candidate {
        let address = resolved.addr;
        // Weight 0 of an SRV record means a minimal chance, not none.
        let weight = u64::from(resolved.weight.map_or(member.endpoint.weight, |w| w.max(1)));
        let split = u64::from(resolved.shared_by.max(1));
        let share = if weight == 0 { 0 } else { (weight.saturating_mul(scale) / split).max(1) };
        let srv_target = resolved.srv_target.as_ref();
        let ring_name = match srv_target {
            Some(name) if split == 1 => Box::from(&**name),
            _ => ip_text(address.ip()).into_boxed_str(),
        };
        let host = match srv_target {
            Some(name) if self.settings.spec.use_srv_name => Arc::clone(name),
            _ => Arc::clone(&member.host),
        };
        let cookie = match self.settings.spec.algorithm {
            Algorithm::Sticky { .. } => cookie(member.id, address),
            _ => Box::default(),
        };
        Candidate {
            peer: self.peer(&member.host, address, peers),
            settings: Arc::clone(&self.settings),
            limits: self.limits.as_ref().map(Arc::clone),
            endpoint: member.id,
            address,
            host,
            weight,
            share,
            cookie,
            ring_name,
            port: address.port(),
        }
    }

    /// The state of an address, new or as it was.
    fn peer(&mut self, host: &Arc<str>, address: SocketAddr, peers: &mut Peers) -> Arc<Peer> {
        let next_key = &mut self.next_key;
        let peer = peers.entry((Arc::clone(host), address)).or_insert_with(|| {
            *next_key = next_key.wrapping_add(1);
            Arc::new(Peer::new(AddressKey(*next_key)))
        });
        Arc::clone(peer)
    }

    /// Puts the peers into the state that the settings require.
    fn settle(&self, now: Tick) {
        if !self.settings.checks.enabled {
            for peer in self.peers() {
                peer.health.set(true);
            }
        }
        match self.settings.outlier() {
            Some(outlier) => self.peers().for_each(|peer| peer.monitor.prepare(outlier)),
            None => self.peers().for_each(|peer| peer.monitor.clear()),
        }
        if self.settings.spec.algorithm == Algorithm::Latency {
            let average = self.average_latency();
            for peer in self.peers().filter(|p| p.latency.last().is_none()) {
                peer.latency.start(average, now);
            }
        }
    }

    /// Mean of the healthy addresses' averages, in milliseconds.
    pub(crate) fn average_latency(&self) -> f32 {
        // Members of the same name share their addresses' states.
        let mut seen = HashSet::new();
        let known = self.peers().filter(|p| p.available() && seen.insert(p.key));
        let known = known.filter_map(|p| p.latency.last());
        let (sum, count) = known.fold((0.0, 0.0_f32), |(sum, count), ms| (sum + ms, count + 1.0));
        if count == 0.0 { 0.0 } else { sum / count }
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Members that are picked among, in the order of the ring.
fn tier(spec: &Cluster, place: (u32, u32), mut members: Vec<&MemberState>, rng: &mut SeededRng) -> Tier {
    members.sort_by_cached_key(|m| (m.name(), m.endpoint.host.port));
    let mut candidates = Vec::new();
    for member in &members {
        let mut own: Vec<Arc<Candidate>> = member.candidates.iter().filter(|c| c.share > 0).cloned().collect();
        own.sort_by_cached_key(|c| (format!("{}:{}", c.ring_name, c.port), c.address));
        candidates.append(&mut own);
    }
    Tier::new(spec, place, candidates, members.len(), rng)
}

/// The schedule of a group with these settings, which had that one; `None` when probes are off.
pub(crate) fn schedule(old: Option<Box<Schedule>>, active: &Active, now: Tick) -> Option<Box<Schedule>> {
    let wanted = active.healthy_interval_ms > 0 || active.unhealthy_interval_ms > 0;
    let mut schedule = match old {
        Some(old) => old,
        None if wanted => Box::new(Schedule::new(active, now)),
        None => return None,
    };
    schedule.update(active, now);
    Some(schedule)
}

/// A short opaque name of an address that is the same on all nodes.
fn cookie(endpoint: Id, address: SocketAddr) -> Box<str> {
    let text = format!("{endpoint} {address}");
    format!("{:08x}{:08x}", xxh32(text.as_bytes(), 0), xxh32(text.as_bytes(), 1)).into()
}
