//! [`Group`]: the node-wide state of a balanced group, and what may change it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cardinal_base::{Rng, Tick};
use cardinal_ir::{Algorithm, Cluster, Endpoint, Host, Id, Labels, Origin};

use crate::address::usable;
use crate::event::{Event, Observed};
use crate::health::Signal;
use crate::limits::ClusterLimits;
use crate::picker::{Picked, Picker};
use crate::place::NodePlace;
use crate::retries::Retries;
use crate::state::{MemberState, Peers, Resolution, Room, State, schedule};
use crate::view::{Candidate, SERVING_NONE, Settings, Vacancy, View};
use crate::{AddressKey, NameFailure, Probe, ProbeOutcome, ResolvedAddr};

/// A balanced group: members, their addresses, health and settings. Shared by all workers.
///
/// Everything that traffic touches is atomic. The lock is taken by configuration, name changes, probes, APIs, and by
/// the one report that changes an address's verdict.
///
/// A group of a [subset](Self::subset) picks among some of the members of another one, with which it shares everything
/// else: addresses, health, ejections, limits, events.
#[derive(Debug)]
pub struct Group {
    id: Id,
    /// Labels that its members have; `None` for all members.
    subset: Option<Labels>,
    version: AtomicU64,
    view: ArcSwap<View>,
    shared: Arc<Shared>,
}

/// What a group shares with those of its subsets.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Numbers pickers.
    pickers: AtomicUsize,
    /// Whether addresses may be ejected.
    room: Arc<Room>,
    /// For retry budgets.
    retries: Retries,
}

/// A member of a group, as the IR's tables have it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The record's id.
    pub id: Id,
    /// The record.
    pub endpoint: Arc<Endpoint>,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's status. 504 counts as a timeout, as in Kong.
    Status(u16),
    /// Connecting failed, or the connection broke before a response.
    TcpFailure,
    /// Connecting, or waiting for a response, took too long.
    Timeout,
    /// A session has its connection. No verdict on health; it ends a row of failures for ejections.
    Connected,
    /// A response was received. Carries the latency, and is no verdict on health.
    Ok {
        /// Connecting and waiting for the response's end.
        latency: Duration,
    },
}

/// The group has no health checks, so there is no verdict to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("health checks are off")]
pub struct HealthChecksOff;

impl Group {
    /// A group of members. Members whose host is an address need no [`set_addresses`](Self::set_addresses).
    pub fn new(id: Id, spec: Arc<Cluster>, members: Vec<Member>, seed: u64, now: Tick) -> Arc<Self> {
        Self::with(id, Arc::new(Settings::new(spec)), members, seed, now)
    }

    /// The group of a backend that has one host: its addresses in turns, by SRV weight where DNS gives one, without
    /// health checks.
    pub fn of_host(id: Id, host: &Host, seed: u64, now: Tick) -> Arc<Self> {
        /// The settings of all such groups.
        static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| Arc::new(Settings::new(Arc::new(host_spec()))));
        let endpoint = Endpoint { cluster: id, host: host.clone(), ..Endpoint::default() };
        let members = vec![Member { id, endpoint: Arc::new(endpoint) }];
        Self::with(id, Arc::clone(&SETTINGS), members, seed, now)
    }

    fn with(id: Id, settings: Arc<Settings>, members: Vec<Member>, seed: u64, now: Tick) -> Arc<Self> {
        let state = State::new(settings, members, seed, now);
        let room = Arc::clone(&state.ejections.room);
        let shared =
            Shared { state: Mutex::new(state), pickers: AtomicUsize::new(0), room, retries: Retries::default() };
        let group = Self::show(id, None, Arc::new(shared));
        let mut state = group.lock();
        state.groups.push(Arc::downgrade(&group));
        state.follow_policies(now);
        replan(&mut state, Peers::new(), now);
        state.take_events();
        drop(state);
        group
    }

    /// A group without a picture yet.
    fn show(id: Id, subset: Option<Labels>, shared: Arc<Shared>) -> Arc<Self> {
        let view = View::new(0, false, Vacancy::NoMembers, Vec::new());
        Arc::new(Self { id, subset, version: AtomicU64::new(0), view: ArcSwap::from_pointee(view), shared })
    }

    /// The group of the members that have all these labels. It lives as long as it is held, and follows all changes of
    /// this one.
    pub fn subset(self: &Arc<Self>, labels: &Labels) -> Arc<Self> {
        let id = Id::new_v5(&self.id, labels.to_string().as_bytes());
        let group = Self::show(id, Some(labels.clone()), Arc::clone(&self.shared));
        let mut state = self.lock();
        state.groups.retain(|group| group.strong_count() > 0);
        state.groups.push(Arc::downgrade(&group));
        group.renew(&mut state);
        drop(state);
        group
    }

    /// Labels that all its members have, when it is the group of a subset.
    pub fn subset_labels(&self) -> Option<&Labels> {
        self.subset.as_ref()
    }

    /// Whether both are groups of the same members, or of subsets of them.
    pub fn is_related(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The group's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The requests and retries in progress that are subject to a retry budget.
    pub fn retries(&self) -> &Retries {
        &self.shared.retries
    }

    /// The group's settings as they are now. Takes the group's lock.
    pub fn spec(&self) -> Arc<Cluster> {
        Arc::clone(&self.lock().settings.spec)
    }

    /// A picker for one worker. `rng` decides where its rotation starts and which members the latency balancer
    /// compares.
    pub fn picker(self: &Arc<Self>, rng: Box<dyn Rng>) -> Picker {
        Picker::new(Arc::clone(self), rng)
    }

    /// Limits of the cluster, if it has any. Takes no lock.
    pub fn limits(&self) -> Option<Arc<ClusterLimits>> {
        self.view.load().limits.as_ref().map(Arc::clone)
    }

    /// Takes in where the node is, which decides on priorities. Until then that is not known.
    pub fn set_place(&self, place: &Arc<NodePlace>, now: Tick) {
        let mut state = self.lock();
        if state.place != *place {
            state.place = Arc::clone(place);
            let peers = state.known();
            replan(&mut state, peers, now);
        }
    }

    /// Takes a changed configuration in. Addresses that stay keep health, ejections, counters, connections and latency.
    pub fn update(&self, spec: Arc<Cluster>, members: Vec<Member>, now: Tick) {
        let mut state = self.lock();
        let peers = state.known();
        let mut known: HashMap<Id, MemberState> = state.members.drain(..).map(|m| (m.id, m)).collect();
        state.members = members
            .into_iter()
            .map(|member| match known.remove(&member.id) {
                Some(old) if old.endpoint.host == member.endpoint.host => {
                    MemberState { endpoint: member.endpoint, candidates: Vec::new(), ..old }
                }
                _ => MemberState::new(member),
            })
            .collect();
        state.schedule = schedule(state.schedule.take(), &spec.health.active, now);
        state.settings = Arc::new(Settings::new(spec));
        state.follow_policies(now);
        replan(&mut state, peers, now);
    }

    /// The names that have to be resolved, by member.
    pub fn names(&self) -> Vec<(Id, Host)> {
        let state = self.lock();
        state
            .members
            .iter()
            .filter(|m| m.endpoint.host.ip().is_none())
            .map(|m| (m.id, m.endpoint.host.clone()))
            .collect()
    }

    /// What a member's name resolves to now. A failure removes all its addresses: serving stale
    /// answers is up to the resolver. An answer for a member that was removed is ignored.
    pub fn set_addresses(&self, endpoint: Id, answer: Result<Vec<ResolvedAddr>, NameFailure>, now: Tick) {
        let mut state = self.lock();
        let Some(member) = state.members.iter_mut().find(|m| m.id == endpoint) else { return };
        let resolution = match answer {
            Ok(addresses) => Resolution::Known(usable(addresses)),
            Err(failure) => Resolution::Failed(failure),
        };
        if member.resolution != resolution {
            if let Some(event) = member.resolved(resolution, now) {
                state.event(event);
            }
            let peers = state.known();
            replan(&mut state, peers, now);
        }
    }

    /// Why there is no address to pick, when a pick has failed. Takes no lock.
    pub fn vacancy(&self) -> Vacancy {
        self.view.load().vacancy.clone()
    }

    /// What came of a request to a picked address. Call it for each try.
    pub fn report(&self, picked: &Picked, outcome: Outcome, now: Tick) {
        self.report_with(picked, outcome, None, now);
    }

    /// The same with more about it, which is made text only when it changes the verdict: see [`Observed::detail`].
    pub fn report_with(&self, picked: &Picked, outcome: Outcome, detail: Option<&dyn fmt::Display>, now: Tick) {
        let candidate = picked.candidate();
        if let Some(outlier) = candidate.settings.outlier()
            && let Some(detector) = candidate.peer.monitor.observe(outlier, outcome, picked.number())
        {
            self.eject(candidate, detector, detail, now);
        }
        let checks = &candidate.settings.checks;
        let signal = match outcome {
            Outcome::Connected => return,
            Outcome::Ok { latency } => {
                if candidate.settings.spec.algorithm == Algorithm::Latency {
                    candidate.peer.latency.observe(latency, now);
                }
                return;
            }
            Outcome::Status(504) | Outcome::Timeout => Some(Signal::Timeout),
            Outcome::Status(status) => checks.passive.signal(status),
            Outcome::TcpFailure => Some(Signal::Tcp),
        };
        if let Some(signal) = signal.filter(|_| checks.enabled) {
            let limit = checks.passive.limit(signal);
            if let Some(healthy) = candidate.peer.health.count(signal, limit) {
                let status = if let Outcome::Status(status) = outcome { Some(status) } else { None };
                let observed = Observed::new(signal, status, limit, detail);
                self.turned(&mut self.lock(), candidate, healthy, ("traffic", Some(observed)), now);
            }
        }
    }

    /// Sets the verdict of a member's address, or of all its addresses. An address that the member does not have
    /// changes nothing, as in Kong.
    pub fn set_health(
        &self,
        endpoint: Id,
        address: Option<SocketAddr>,
        healthy: bool,
        now: Tick,
    ) -> Result<(), HealthChecksOff> {
        let mut state = self.lock();
        if !state.settings.checks.enabled {
            return Err(HealthChecksOff);
        }
        let chosen: Vec<Arc<Candidate>> = state
            .members
            .iter()
            .filter(|m| m.id == endpoint)
            .flat_map(|m| &m.candidates)
            .filter(|c| address.is_none_or(|a| a == c.address))
            .cloned()
            .collect();
        for candidate in chosen {
            if candidate.peer.health.set(healthy) {
                self.turned(&mut state, &candidate, healthy, ("manual", None), now);
            }
        }
        Ok(())
    }

    /// The probes to run now; report the outcome of each with [`probe_result`](Self::probe_result).
    pub fn due(&self, now: Tick) -> Vec<Probe> {
        let mut state = self.lock();
        let State { members, schedule: Some(schedule), settings, .. } = &mut *state else { return Vec::new() };
        // Kong does not check addresses without weight.
        let probed = || members.iter().flat_map(|m| &m.candidates).filter(|c| c.weight > 0);
        let verdicts: BTreeMap<AddressKey, bool> = probed().map(|c| (c.peer.key, c.peer.health.available())).collect();
        let keys: HashSet<AddressKey> = schedule.due(&verdicts, now).into_iter().collect();
        let mut taken = HashSet::new();
        probed()
            .filter(|c| keys.contains(&c.peer.key) && taken.insert(c.peer.key))
            .map(|c| Probe {
                key: c.peer.key,
                endpoint: c.endpoint,
                address: c.address,
                host: Arc::clone(&c.host),
                settings: Arc::clone(&settings.spec),
            })
            .collect()
    }

    /// When to call [`due`](Self::due) or [`evaluate`](Self::evaluate) next; `None` when there is nothing to do. Changes
    /// after each result and update.
    pub fn next_due(&self, now: Tick) -> Option<Tick> {
        let state = self.lock();
        let probes = state.schedule.as_ref().and_then(|schedule| schedule.next(now));
        probes.into_iter().chain(state.ejections.next).min()
    }

    /// What came of a probe.
    pub fn probe_result(&self, key: AddressKey, outcome: ProbeOutcome, now: Tick) {
        self.probe_result_with(key, outcome, None, now);
    }

    /// The same with more about it: see [`Observed::detail`].
    pub fn probe_result_with(
        &self,
        key: AddressKey,
        outcome: ProbeOutcome,
        detail: Option<&dyn fmt::Display>,
        now: Tick,
    ) {
        let mut state = self.lock();
        if !state.schedule.as_mut().is_some_and(|schedule| schedule.finished(key)) {
            return;
        }
        let Some(candidate) =
            state.members.iter().flat_map(|m| &m.candidates).find(|c| c.peer.key == key).map(Arc::clone)
        else {
            return;
        };
        let judge = &candidate.settings.checks.active;
        if outcome.signal(judge) == Some(Signal::Success)
            && state.settings.outlier().is_some_and(|outlier| outlier.returns_on_probe)
        {
            state.restore(&candidate);
        }
        if let Some(signal) = outcome.signal(judge)
            && let Some(healthy) = candidate.peer.health.count(signal, judge.limit(signal))
        {
            let status = if let ProbeOutcome::Status(status) = outcome { Some(status) } else { None };
            let observed = Observed::new(signal, status, judge.limit(signal), detail);
            self.turned(&mut state, &candidate, healthy, ("probe", Some(observed)), now);
        }
    }

    /// Takes the events since the last call. At most 1,024 are kept.
    pub fn take_events(&self) -> Vec<Event> {
        self.lock().take_events()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Whether addresses may be ejected.
    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// The number of a new picker.
    pub(crate) fn next_picker(&self) -> usize {
        self.shared.pickers.fetch_add(1, Ordering::Relaxed)
    }

    /// A verdict changed.
    fn turned(
        &self,
        state: &mut State,
        candidate: &Candidate,
        healthy: bool,
        (cause, observed): (&'static str, Option<Observed>),
        now: Tick,
    ) {
        if !state.knows(candidate.peer.key) {
            return;
        }
        if !state.settings.checks.enabled {
            // The report came from a pick made before checks were switched off.
            candidate.peer.health.set(true);
            return;
        }
        if healthy && state.settings.spec.algorithm == Algorithm::Latency {
            let average = state.average_latency();
            candidate.peer.latency.start(average, now);
        }
        state.event(Event::Address {
            endpoint: candidate.endpoint,
            host: Arc::clone(&candidate.host),
            address: candidate.address,
            healthy,
            cause,
            observed,
        });
        judge(state);
    }

    /// Puts a new picture in place.
    fn renew(&self, state: &mut State) {
        let version = self.version.load(Ordering::Relaxed) + 1;
        let view = state.view(version, self.subset.as_ref());
        view.judge(&state.settings.spec);
        self.view.store(Arc::new(view));
        self.version.store(version, Ordering::Release);
    }
}

/// Makes the pictures of a group and of its subsets anew.
fn replan(state: &mut State, peers: Peers, now: Tick) {
    state.rebuild(peers, now);
    state.groups.retain(|group| group.strong_count() > 0);
    let before = state.serving();
    for group in state.all_groups() {
        group.renew(state);
    }
    state.tell_serving(before);
}

/// Decides which tiers of a group and of its subsets serve.
pub(crate) fn judge(state: &mut State) {
    let before = state.serving();
    for group in state.all_groups() {
        group.view.load().judge(&state.settings.spec);
    }
    state.tell_serving(before);
}

impl State {
    fn all_groups(&self) -> Vec<Arc<Group>> {
        self.groups.iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    /// Whether the group of all members serves, and whether it panics.
    fn serving(&self) -> (bool, bool) {
        let group = self.groups.first().and_then(std::sync::Weak::upgrade);
        group.map_or((false, false), |group| {
            let view = group.view.load();
            (view.serving() != SERVING_NONE, view.panics())
        })
    }

    /// Makes events of what changed since `before`.
    fn tell_serving(&mut self, before: (bool, bool)) {
        let (serves, panics) = self.serving();
        if serves != before.0 {
            self.event(Event::Group { healthy: serves });
        }
        if panics != before.1 {
            self.event(Event::Panic { panics });
        }
    }
}

/// The settings of a group that no user made.
fn host_spec() -> Cluster {
    Cluster { origin: Origin::default(), slots: 1_000, document: "{}".into(), ..Cluster::default() }
}
