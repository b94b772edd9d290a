//! [`Group`]: the node-wide state of a balanced group, and what may change it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cardinal_base::{Rng, Tick};
use cardinal_ir::{Algorithm, Cluster, Endpoint, HashInput, HealthChecks, Host, Id, Origin};

use crate::address::usable;
use crate::health::Signal;
use crate::picker::{Picked, Picker};
use crate::retries::Retries;
use crate::state::{MemberState, Peers, Resolution, State, schedule};
use crate::view::{Candidate, Index, Settings, Tier, Vacancy, View};
use crate::{AddressKey, NameFailure, Probe, ProbeOutcome, ResolvedAddr};

/// A balanced group: members, their addresses, health and settings. Shared by all workers.
///
/// Everything that traffic touches is atomic. The lock is taken by configuration, name changes, probes, APIs, and by
/// the one report that changes an address's verdict.
#[derive(Debug)]
pub struct Group {
    id: Id,
    version: AtomicU64,
    serving: AtomicU8,
    view: ArcSwap<View>,
    state: Mutex<State>,
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
    /// A response was received. Carries the latency, and is no verdict on health.
    Ok {
        /// Connecting and waiting for the response's end.
        latency: Duration,
    },
}

/// What changed, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address changed its verdict.
    Address {
        /// The member.
        endpoint: Id,
        /// The member's name.
        host: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// The new verdict.
        healthy: bool,
        /// What changed it: `traffic`, `probe` or `manual`.
        cause: &'static str,
        /// What was observed last, and how often; `None` for `manual`.
        observed: Option<Observed>,
    },
    /// A member's name does not resolve, for another reason than before, or resolves again.
    Name {
        /// The member's name.
        host: Arc<str>,
        /// The member's port.
        port: u16,
        /// Why it does not resolve.
        failure: Option<Box<str>>,
    },
    /// The group as a whole began or ceased to serve.
    Group {
        /// Whether it serves.
        healthy: bool,
    },
}

/// What changed a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it was, the last time.
    pub signal: Signal,
    /// The status, where there was one.
    pub status: Option<u16>,
    /// How often it was seen.
    pub count: u8,
    /// More about the last time, from the caller.
    pub detail: Option<Box<str>>,
}

/// Bytes of [`Observed::detail`].
const DETAIL_MAX: usize = 256;

impl Observed {
    fn new(signal: Signal, status: Option<u16>, count: u8, detail: Option<&dyn fmt::Display>) -> Self {
        let short = |detail: &dyn fmt::Display| detail.to_string().chars().take(DETAIL_MAX).collect::<String>().into();
        Self { signal, status, count, detail: detail.map(short) }
    }
}

/// The group has no health checks, so there is no verdict to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("health checks are off")]
pub struct HealthChecksOff;

/// Which tier serves.
pub(crate) const SERVING_NONE: u8 = 2;

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
        let endpoint =
            Endpoint { origin: Origin::default(), cluster: id, host: host.clone(), weight: 100, failover: false };
        let members = vec![Member { id, endpoint: Arc::new(endpoint) }];
        Self::with(id, Arc::clone(&SETTINGS), members, seed, now)
    }

    fn with(id: Id, settings: Arc<Settings>, members: Vec<Member>, seed: u64, now: Tick) -> Arc<Self> {
        let empty = || Tier { candidates: Box::default(), index: Index::Wheel(Box::default()) };
        let view = View { version: 0, unresolved: false, vacancy: Vacancy::NoMembers, tiers: [empty(), empty()] };
        let group = Self {
            id,
            version: AtomicU64::new(0),
            serving: AtomicU8::new(SERVING_NONE),
            view: ArcSwap::from_pointee(view),
            state: Mutex::new(State::new(settings, members, seed, now)),
            retries: Retries::default(),
        };
        group.replan(&mut group.lock(), Peers::new(), now);
        group.take_events();
        Arc::new(group)
    }

    /// The group's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The requests and retries under way that are subject to a retry budget.
    pub fn retries(&self) -> &Retries {
        &self.retries
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

    /// Takes a changed configuration in. Addresses that stay keep health, counters, connections and latency.
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
        self.replan(&mut state, peers, now);
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
            self.replan(&mut state, peers, now);
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
        let checks = &candidate.settings.checks;
        let signal = match outcome {
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
        let verdicts: BTreeMap<AddressKey, bool> = probed().map(|c| (c.peer.key, c.available())).collect();
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

    /// When to call [`due`](Self::due) next; `None` when probes are off. Changes after each result and update.
    pub fn next_due(&self, now: Tick) -> Option<Tick> {
        self.lock().schedule.as_ref()?.next(now)
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The index of the tier that serves, or [`SERVING_NONE`].
    pub(crate) fn serving(&self) -> u8 {
        self.serving.load(Ordering::Relaxed)
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
        self.judge(state, &self.view.load());
    }

    /// Decides which tier serves.
    fn judge(&self, state: &mut State, view: &View) {
        let threshold = state.settings.spec.health.threshold_percent;
        let [normal, failover] = &view.tiers;
        let serving = if normal.serves(threshold) {
            0
        } else if !normal.any_available() && failover.serves(threshold) {
            1
        } else {
            SERVING_NONE
        };
        let before = self.serving.swap(serving, Ordering::Relaxed);
        if (before == SERVING_NONE) != (serving == SERVING_NONE) {
            state.event(Event::Group { healthy: serving != SERVING_NONE });
        }
    }

    /// Puts a new view in place.
    fn replan(&self, state: &mut State, peers: Peers, now: Tick) {
        let version = self.version.load(Ordering::Relaxed) + 1;
        let view = Arc::new(state.view(version, peers, now));
        self.view.store(Arc::clone(&view));
        self.version.store(version, Ordering::Release);
        self.judge(state, &view);
    }
}

/// The settings of a group that no user made.
fn host_spec() -> Cluster {
    Cluster {
        origin: Origin::default(),
        algorithm: Algorithm::RoundRobin,
        slots: 1_000,
        hash_on: HashInput::None,
        hash_fallback: HashInput::None,
        health: HealthChecks::default(),
        host_header: None,
        client_certificate: None,
        use_srv_name: false,
        document: "{}".into(),
    }
}
