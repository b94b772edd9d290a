//! Plans backends, and keeps the state of their balanced groups across generations.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cardinal_balance::{Group, Member, NodePlace};
use cardinal_base::{Clock, Keyed, Rng, Sharded, SystemRng};
use cardinal_ir::{
    Backend, Cluster, Code, Diagnostic, Host, HttpVersion, Id, Ir, Labels, NodeSettings, Secrets, Severity, Target,
    UpstreamIdentity,
};
use cardinal_net::identity::IdentityStore;
use cardinal_net::tls::{self, ClientSettings, TlsError};
use cardinal_sdk::{BackendInfo, Services};
use rustls::ClientConfig;
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;

use super::changes::Changes;
use super::client_pair::client_pair;
use super::identities::policy_of;
use crate::policy::retry::watches_responses;

/// A backend, ready for use.
pub struct BackendPlan {
    /// The record's id.
    pub id: Id,
    /// The backend record.
    pub backend: Arc<Backend>,
    /// The backend as filters and logs see it.
    pub info: Arc<BackendInfo>,
    /// Its endpoints.
    pub group: Arc<Group>,
    /// The cluster, if the backend names one.
    pub endpoints: Option<Arc<Cluster>>,
    /// TLS; `None` for clear text.
    pub tls: Option<BackendTls>,
    /// Settings number of connections: connections are interchangeable if their address, server name and this number
    /// are equal.
    pub settings: u64,
    /// Whether its retry policy examines responses.
    pub(crate) watches_responses: bool,
}

/// The usable backends of a generation, and the problems of the others.
#[derive(Clone, Default)]
pub(super) struct Backends {
    plans: Sharded<ById>,
    problems: BTreeMap<Id, Diagnostic>,
    /// The generation, by which a registry detects that it matches.
    generation: u64,
}

#[derive(Clone)]
struct ById(Arc<BackendPlan>);

impl Keyed for ById {
    type Key = Id;

    fn key(&self) -> &Id {
        &self.0.id
    }
}

impl Backends {
    /// The backend with this id.
    pub(super) fn get(&self, id: &Id) -> Option<&Arc<BackendPlan>> {
        self.plans.find(id).map(|found| &found.0)
    }

    /// The backends that were left out, with the reasons.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.problems.values().cloned()
    }
}

/// TLS settings towards a backend.
#[derive(Clone)]
pub struct BackendTls {
    /// Offers the ALPN protocols of the backend.
    pub config: Arc<ClientConfig>,
    /// Offers only HTTP/1.1: for upgrades and byte streams.
    pub config_h1: Arc<ClientConfig>,
}

impl BackendPlan {
    /// The server name to send, if it does not depend on the request's host.
    pub fn server_name(&self) -> Option<&str> {
        self.backend.tls.as_ref()?.identity.as_ref()?.server_name.as_deref()
    }

    /// Whether HTTP/2 is used by prior knowledge.
    pub fn h2_only(&self) -> bool {
        self.backend.http == Some(HttpVersion::H2)
    }
}

/// State that persists across generations: balanced groups with their health and counters, TLS settings, and the node's
/// self-signed certificate.
pub struct Registry {
    state: Mutex<State>,
    next_settings: AtomicU64,
    ticketer: Arc<dyn ProducesTickets>,
    identities: Arc<IdentityStore>,
}

#[derive(Default)]
struct State {
    /// Groups of the users' clusters.
    balanced: HashMap<Id, Arc<Group>>,
    /// Groups of backends with a single host, and the number of backends that use each.
    hosts: HashMap<Id, (Arc<Group>, usize)>,
    /// Groups of subsets, and the number of backends that use each.
    subsets: HashMap<Id, (Arc<Group>, usize)>,
    /// The location of the node.
    place: Arc<NodePlace>,
    /// Changes of groups since the last [`Registry::take_news`].
    news: Vec<News>,
    /// Number of groups removed since the start.
    gone: u64,
    /// The generation of this state.
    generation: u64,
    tls: KnownTls,
    /// Seed of the groups' randomness; `None` seeds from the operating system.
    seed: Option<u64>,
    self_signed: Option<Arc<CertifiedKey>>,
}

/// TLS settings in use by some plan, by their fingerprint, with their numbers. Unused settings are freed together with
/// their private keys.
type KnownTls = HashMap<[u8; 32], (u64, Weak<ClientConfig>, Weak<ClientConfig>)>;

/// A change of a group.
pub(crate) enum News {
    /// The group is new, or has other members.
    Put(Arc<Group>),
    /// No backend uses it any more.
    Gone(Id),
}

/// Settings number for clear-text HTTP/1.1.
const PLAIN_H1: u64 = 1;
/// Settings number for clear-text HTTP/2.
const PLAIN_H2: u64 = 2;
/// First settings number for TLS.
const FIRST_TLS: u64 = 16;

impl Registry {
    /// An empty registry. The validity of identities is checked by this clock.
    ///
    /// # Errors
    /// If the system has no randomness for session tickets.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        Ok(Self {
            state: Mutex::default(),
            next_settings: AtomicU64::new(FIRST_TLS),
            ticketer: tls::ticketer()?,
            identities: IdentityStore::new(clock),
        })
    }

    /// Identities of the node, and the trust bundles that peers are verified by: a live handle.
    pub fn identities(&self) -> &Arc<IdentityStore> {
        &self.identities
    }

    /// Sets the seed for groups created from now on.
    pub(crate) fn seed_with(&self, seed: Option<u64>) {
        self.lock().seed = seed;
    }

    /// The ticketer for all generations.
    pub(super) fn ticketer(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.ticketer)
    }

    /// The self-signed certificate, for nodes without certificates.
    pub(super) fn self_signed(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut state = self.lock();
        if let Some(made) = &state.self_signed {
            return Ok(Arc::clone(made));
        }
        let made = tls::self_signed()?;
        state.self_signed = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The groups of all users' clusters in the active generation.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.lock().balanced.values().map(Arc::clone).collect()
    }

    /// The group of a cluster.
    pub fn group(&self, id: &Id) -> Option<Arc<Group>> {
        self.lock().balanced.get(id).map(Arc::clone)
    }

    /// Number of groups removed since the node started.
    pub(crate) fn groups_gone(&self) -> u64 {
        self.lock().gone
    }

    /// The changes of groups since the last call, in order.
    pub(crate) fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut self.lock().news)
    }

    /// Plans the backends of `ir`, and determines which backends differ from those in `previous`. Unchanged groups keep
    /// their health and counters.
    pub(super) fn backends(
        &self,
        records: Records<'_>,
        generation: u64,
        changes: &Changes,
        previous: &Backends,
        services: &Services,
    ) -> (Backends, HashSet<Id>) {
        let Records { ir, node, .. } = records;
        let mut state = self.lock();
        let state = &mut *state;
        let follows = state.generation == previous.generation;
        let nothing = Backends::default();
        let previous = if follows { previous } else { &nothing };
        let mut concerned = concerned(ir, changes, previous);
        if !follows {
            // The uses of these groups are counted again.
            state.hosts.values_mut().chain(state.subsets.values_mut()).for_each(|(_, uses)| *uses = 0);
            concerned.extend(ir.backends.iter().map(|(id, _)| *id));
        }
        state.generation = generation;
        if changes.node {
            state.moved(node, services);
        }
        self.update_groups(state, ir, changes, !follows, services);
        let mut next = Backends { generation, ..previous.clone() };
        let mut planner = BackendPlanner { registry: self, records, services, tls_of: HashMap::new() };
        let mut unused = Vec::new();
        for id in &concerned {
            next.problems.remove(id);
            unused.extend(next.plans.remove(id));
            let Some(backend) = ir.backends.get(id) else { continue };
            match planner.plan(state, *id, backend) {
                Ok(plan) => drop(next.plans.insert(ById(Arc::new(plan)))),
                Err(error) => drop(next.problems.insert(*id, unusable(backend, &error))),
            }
        }
        for ById(backend) in &unused {
            state.release(backend);
        }
        if !follows {
            state.release_unused();
        }
        state.tls.retain(|_, (_, config, _)| config.strong_count() > 0);
        (next, concerned)
    }

    /// Applies the changes of the users' clusters.
    fn update_groups(&self, state: &mut State, ir: &Ir, changes: &Changes, all: bool, services: &Services) {
        let now = services.clock.tick();
        let mut concerned: HashSet<Id> = changes.delta.clusters.iter().map(|change| change.id).collect();
        for change in &changes.delta.endpoints {
            concerned.extend(change.old.iter().chain(&change.new).map(|endpoint| endpoint.cluster));
        }
        if all {
            concerned.extend(state.balanced.keys().copied().chain(ir.clusters.iter().map(|(id, _)| *id)));
        }
        let mut members = if concerned.is_empty() { HashMap::new() } else { members(ir, &concerned) };
        for id in concerned {
            let Some(spec) = ir.clusters.get(&id) else {
                if state.balanced.remove(&id).is_some() {
                    state.went(id);
                }
                continue;
            };
            let members = members.remove(&id).unwrap_or_default();
            let group = match state.balanced.get(&id) {
                Some(group) => {
                    group.update(Arc::clone(spec), members, now);
                    Arc::clone(group)
                }
                None => {
                    let group = Group::new(id, Arc::clone(spec), members, group_seed(state.seed, id), now);
                    group.set_place(&state.place, now);
                    state.balanced.insert(id, Arc::clone(&group));
                    group
                }
            };
            state.news.push(News::Put(group));
        }
    }

    /// TLS settings, built once for all backends and generations with equal settings.
    fn client_tls(
        &self,
        known: &mut KnownTls,
        Records { ir, secrets, node }: Records<'_>,
        backend: &Backend,
        endpoints: Option<&Cluster>,
    ) -> Result<(u64, BackendTls), TlsError> {
        let spec = backend.tls.clone().unwrap_or_default();
        if let Some(identity) = &spec.identity {
            return self.identity_tls(known, backend, identity);
        }
        let client = spec.client_certificate.or_else(|| endpoints.and_then(|e| e.client_certificate));
        // The references are verified; if one is missing nevertheless, connecting without a certificate or with other
        // trust anchors must be prevented.
        let missing = || TlsError::Config("its trust bundle is not in this generation".to_owned());
        let client = client.map(|id| client_pair(ir, secrets, id)).transpose()?;
        let trusted = |id| ir.trust_bundles.get(id).map(|bundle| &*bundle.certificate);
        let trusted = spec.trust_bundles.iter().map(|id| trusted(id).ok_or_else(missing));
        let trusted: Vec<&str> = trusted.collect::<Result<_, _>>()?;
        let authorities = if trusted.is_empty() {
            node.upstream_authorities.as_deref().map(str::to_owned)
        } else {
            Some(trusted.join("\n"))
        };
        let settings = ClientSettings {
            verify: spec.verify,
            verify_depth: spec.verify_depth,
            authorities,
            client,
            alpn: match backend.http {
                Some(HttpVersion::H2) => vec![b"h2".to_vec()],
                Some(HttpVersion::Negotiate) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Some(HttpVersion::H1) => vec![b"http/1.1".to_vec()],
                None => Vec::new(),
            },
        };
        let key = settings.fingerprint();
        if let Some((number, config, config_h1)) = known.get(&key)
            && let (Some(config), Some(config_h1)) = (config.upgrade(), config_h1.upgrade())
        {
            return Ok((*number, BackendTls { config, config_h1 }));
        }
        let alpn_h1 = if backend.http.is_some() { vec![b"http/1.1".to_vec()] } else { Vec::new() };
        let config_h1 = tls::client_config(&ClientSettings { alpn: alpn_h1, ..settings.clone() })?;
        let tls = BackendTls { config: tls::client_config(&settings)?, config_h1 };
        // Two numbers: connections that only offered HTTP/1.1 are kept separate.
        let number = self.next_settings.fetch_add(2, Ordering::Relaxed);
        known.insert(key, (number, Arc::downgrade(&tls.config), Arc::downgrade(&tls.config_h1)));
        Ok((number, tls))
    }

    /// Mutual TLS by SPIFFE identities. The settings number depends on the policy only: a rotation of certificates or
    /// roots does not change it.
    fn identity_tls(
        &self,
        known: &mut KnownTls,
        backend: &Backend,
        spec: &UpstreamIdentity,
    ) -> Result<(u64, BackendTls), TlsError> {
        let policy = policy_of(&spec.tls).map_err(TlsError::Config)?;
        let own = |alpn: &[&[u8]]| self.identities.client(&policy.clone().with_alpn(alpn));
        let (alpn, alpn_h1): (&[&[u8]], &[&[u8]]) = match backend.http {
            Some(HttpVersion::H2) => (&[b"h2"], &[b"http/1.1"]),
            Some(HttpVersion::Negotiate) => (&[b"h2", b"http/1.1"], &[b"http/1.1"]),
            Some(HttpVersion::H1) => (&[b"http/1.1"], &[b"http/1.1"]),
            None => (&[], &[]),
        };
        let (client, client_h1) = (own(alpn)?, own(alpn_h1)?);
        let tls = BackendTls { config: Arc::clone(client.config()), config_h1: Arc::clone(client_h1.config()) };
        let key = client.policy().fingerprint();
        if let Some((number, config, _)) = known.get(&key)
            && config.upgrade().is_some_and(|config| Arc::ptr_eq(&config, &tls.config))
        {
            return Ok((*number, tls));
        }
        let number = self.next_settings.fetch_add(2, Ordering::Relaxed);
        known.insert(key, (number, Arc::downgrade(&tls.config), Arc::downgrade(&tls.config_h1)));
        Ok((number, tls))
    }

    /// Describes the groups, with the use counts of those with a single host.
    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        let state = self.lock();
        let mut balanced: Vec<_> = state.balanced.values().map(|group| (group.id(), group.status().weight)).collect();
        let mut hosts: Vec<_> = state.hosts.iter().map(|(id, (_, uses))| (id, uses)).collect();
        balanced.sort_by_key(|(id, _)| *id);
        hosts.sort();
        let mut subsets: Vec<_> = state.subsets.iter().map(|(id, (_, uses))| (id, uses)).collect();
        subsets.sort();
        format!("{balanced:?} {hosts:?} {subsets:?}")
    }

    /// Number of TLS settings in memory.
    #[cfg(test)]
    pub(super) fn tls_settings(&self) -> usize {
        self.lock().tls.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records from which backends are planned.
#[derive(Clone, Copy)]
pub(super) struct Records<'x> {
    pub(super) ir: &'x Ir,
    pub(super) secrets: &'x Secrets,
    pub(super) node: &'x NodeSettings,
}

/// Plans backends; builds equal TLS settings once.
struct BackendPlanner<'x> {
    registry: &'x Registry,
    records: Records<'x>,
    services: &'x Services,
    tls_of: HashMap<String, (u64, BackendTls)>,
}

impl BackendPlanner<'_> {
    fn plan(&mut self, state: &mut State, id: Id, backend: &Arc<Backend>) -> Result<BackendPlan, TlsError> {
        let missing = || TlsError::Config("its endpoints are not in this generation".to_owned());
        let endpoints = match &backend.target {
            Target::Cluster { id, .. } => Some(Arc::clone(self.records.ir.clusters.get(id).ok_or_else(missing)?)),
            Target::Host(_) => None,
        };
        let (settings, tls) = match &backend.tls {
            None if backend.http == Some(HttpVersion::H2) => (PLAIN_H2, None),
            None => (PLAIN_H1, None),
            Some(spec) => {
                let client = endpoints.as_ref().and_then(|endpoints| endpoints.client_certificate);
                let same = format!("{spec:?} {:?} {client:?}", backend.http);
                let (settings, tls) = match self.tls_of.get(&same) {
                    Some(made) => made.clone(),
                    None => {
                        let made =
                            self.registry.client_tls(&mut state.tls, self.records, backend, endpoints.as_deref())?;
                        self.tls_of.insert(same, made.clone());
                        made
                    }
                };
                (settings, Some(tls))
            }
        };
        let group = match &backend.target {
            Target::Cluster { id, subset, .. } => state.balanced(id, subset).ok_or_else(missing)?,
            Target::Host(host) => state.host(host, self.services),
        };
        let info = Arc::new(BackendInfo::new(Arc::clone(backend), endpoints.clone()));
        let watches_responses = backend.retry.as_deref().is_some_and(watches_responses);
        Ok(BackendPlan { id, watches_responses, backend: Arc::clone(backend), info, group, endpoints, tls, settings })
    }
}

/// The seed of a group: deterministic for the same base seed, regardless of other groups.
fn group_seed(seed: Option<u64>, id: Id) -> u64 {
    match seed {
        Some(seed) => seed.wrapping_add(id.as_u64_pair().1),
        None => SystemRng.next_u64(),
    }
}

impl State {
    /// Applies the current location of the node.
    fn moved(&mut self, node: &NodeSettings, services: &Services) {
        let place = NodePlace { locality: node.locality.clone(), labels: node.labels.clone() };
        if *self.place != place {
            self.place = Arc::new(place);
            let now = services.clock.tick();
            self.balanced.values().for_each(|group| group.set_place(&self.place, now));
        }
    }

    /// The group of a cluster or of a subset of it; counts one more use.
    fn balanced(&mut self, cluster: &Id, subset: &Labels) -> Option<Arc<Group>> {
        let group = self.balanced.get(cluster)?;
        if subset.is_empty() {
            return Some(Arc::clone(group));
        }
        let made = group.subset(subset);
        let (known, uses) = self.subsets.entry(made.id()).or_insert_with(|| (Arc::clone(&made), 0));
        // The cluster may have been removed and added again: the old subset then belongs to another group.
        if !known.is_related(group) {
            (*known, *uses) = (made, 0);
        }
        *uses += 1;
        Some(Arc::clone(known))
    }

    /// The group of a host; counts one more use.
    fn host(&mut self, host: &Host, services: &Services) -> Arc<Group> {
        let id = host_id(host);
        let (news, seed) = (&mut self.news, self.seed);
        let (group, uses) = self.hosts.entry(id).or_insert_with(|| {
            let group = Group::of_host(id, host, group_seed(seed, id), services.clock.tick());
            news.push(News::Put(Arc::clone(&group)));
            (group, 0)
        });
        *uses += 1;
        Arc::clone(group)
    }

    /// Counts one use less of the group of the backend's host.
    fn release(&mut self, backend: &BackendPlan) {
        let id = backend.group.id();
        if backend.endpoints.is_some() {
            if let Some((group, uses)) = self.subsets.get_mut(&id)
                && Arc::ptr_eq(group, &backend.group)
            {
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    self.subsets.remove(&id);
                    self.gone += 1;
                }
            }
            return;
        }
        if let Some((_, uses)) = self.hosts.get_mut(&id) {
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                self.hosts.remove(&id);
                self.went(id);
            }
        }
    }

    /// Drops all groups of hosts that no backend uses.
    fn release_unused(&mut self) {
        let unused: Vec<Id> = self.hosts.extract_if(|_, (_, uses)| *uses == 0).map(|(id, _)| id).collect();
        unused.into_iter().for_each(|id| self.went(id));
        let before = self.subsets.len();
        self.subsets.retain(|_, (_, uses)| *uses > 0);
        self.gone += (before - self.subsets.len()) as u64;
    }

    fn went(&mut self, id: Id) {
        self.gone += 1;
        self.news.push(News::Gone(id));
    }
}

/// Backends of the same host and port share one group.
fn host_id(host: &Host) -> Id {
    Id::new_v5(&Id::NAMESPACE_DNS, format!("{}:{}", host.host, host.port).as_bytes())
}

/// The backends that have to be planned again.
fn concerned(ir: &Ir, changes: &Changes, previous: &Backends) -> HashSet<Id> {
    let mut concerned: HashSet<Id> = changes.delta.backends.iter().map(|change| change.id).collect();
    let groups: HashSet<Id> = changes.delta.clusters.iter().map(|change| change.id).collect();
    let tls = changes.touches_tls();
    if tls || !groups.is_empty() {
        let of_group = |backend: &Backend| match &backend.target {
            Target::Cluster { id, .. } => groups.contains(id),
            Target::Host(_) => false,
        };
        let more = previous.plans.iter().map(|found| (found.0.id, &found.0.backend));
        let more = more.filter(|(_, backend)| (tls && backend.tls.is_some()) || of_group(backend));
        concerned.extend(more.map(|(id, _)| id));
        // Backends that were left out may be usable now.
        concerned.extend(previous.problems.keys().filter(|id| ir.backends.contains(id)));
    }
    concerned
}

/// The members of each group.
fn members(ir: &Ir, groups: &HashSet<Id>) -> HashMap<Id, Vec<Member>> {
    let mut members: HashMap<Id, Vec<Member>> = HashMap::new();
    for (id, endpoint) in ir.endpoints.iter().filter(|(_, endpoint)| groups.contains(&endpoint.cluster)) {
        let member = Member { id: *id, endpoint: Arc::clone(endpoint) };
        members.entry(endpoint.cluster).or_default().push(member);
    }
    members
}

/// Reads the system's CA certificates if an upstream is verified by them and they have not been read yet. They are then
/// available for the life of the process.
///
/// # Errors
/// If the node has run out of a resource before they were ever read.
pub(super) fn read_system_authorities(ir: &Ir, node: &NodeSettings) -> Result<(), TlsError> {
    let by_system =
        |backend: &Backend| backend.tls.as_ref().is_some_and(|spec| spec.verify && spec.trust_bundles.is_empty());
    let node_has_own = node.upstream_authorities.is_some();
    if node_has_own || tls::has_system_authorities() || !ir.backends.iter().any(|(_, backend)| by_system(backend)) {
        return Ok(());
    }
    tls::read_system_authorities()
}

fn unusable(backend: &Backend, error: &TlsError) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Certificate,
        origin: backend.origin.clone(),
        location: None,
        path: String::new(),
        message: error.to_string(),
        hint: None,
    }
}
