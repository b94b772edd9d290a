//! DNS names of endpoints: resolved on first use, then watched while a generation uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_balance::{Group, NameFailure, ResolvedAddr, Vacancy};
use cardinal_base::Clock;
use cardinal_http::{Failure, FailureKind};
use cardinal_ir::{Host, Id};
use cardinal_net::dns::{Answer, Dns, DnsError, WatchGuard, WatchResult};

use crate::plan::{News, Registry};

/// Watched names by their group.
type Watched = HashMap<Id, Vec<Watching>>;

/// The name of one endpoint.
struct Watching {
    endpoint: Id,
    host: Host,
    _guard: WatchGuard,
}

/// The names used by the active generation.
pub(crate) struct Names {
    pub(crate) dns: Dns,
    clock: Arc<dyn Clock>,
    /// The DNS servers, for logs.
    servers: Arc<str>,
    watched: Mutex<Watched>,
}

impl Names {
    pub(crate) fn new(dns: Dns, clock: Arc<dyn Clock>) -> Self {
        Self { servers: dns.servers(), dns, clock, watched: Mutex::default() }
    }

    /// Watches the names of all groups, and no others. Only processes groups that changed since the last call.
    pub(crate) fn follow(&self, registry: &Registry) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for news in registry.take_news() {
            match news {
                News::Gone(id) => drop(watched.remove(&id)),
                News::Put(group) => {
                    let before = watched.remove(&group.id()).unwrap_or_default();
                    let mut before: HashMap<Id, Watching> = before.into_iter().map(|n| (n.endpoint, n)).collect();
                    let names = group.names().into_iter().map(|(endpoint, host)| match before.remove(&endpoint) {
                        Some(same) if same.host == host => same,
                        _ => self.watch(&group, endpoint, host),
                    });
                    let names: Vec<Watching> = names.collect();
                    if !names.is_empty() {
                        watched.insert(group.id(), names);
                    }
                }
            }
        }
    }

    fn watch(&self, group: &Arc<Group>, endpoint: Id, host: Host) -> Watching {
        let (group, clock, servers) = (Arc::clone(group), Arc::clone(&self.clock), Arc::clone(&self.servers));
        let told = move |result: &WatchResult| {
            let answer = match result {
                Ok(answer) => Ok(addresses(answer)),
                Err(error) => Err(name_failure(*error, &servers)),
            };
            group.set_addresses(endpoint, answer, clock.tick());
        };
        let guard = self.dns.watch(&host.host, host.port, told);
        Watching { endpoint, host, _guard: guard }
    }

    /// Resolves the unresolved names of a group.
    ///
    /// # Errors
    /// If none of them resolves: [`FailureKind::NameResolution`], [`FailureKind::Resolver`] if no server answered, or
    /// [`FailureKind::Overloaded`] if the node had no resources for a query. The source lists the names and reasons.
    pub(crate) async fn resolve(&self, group: &Group) -> Result<(), Failure> {
        let (mut resolved, mut definite, mut local, mut failed) = (false, false, false, Vec::new());
        for (endpoint, host) in group.names() {
            match self.dns.resolve(&host.host, host.port).await {
                Ok(answer) => {
                    group.set_addresses(endpoint, Ok(addresses(&answer)), self.clock.tick());
                    resolved = true;
                }
                Err(error) if error.is_local() => {
                    local = true;
                    failed.push(format!("{}: {}", host.host, error.reason(&self.servers)));
                }
                Err(error) => {
                    definite |= error.is_definite();
                    let failure = name_failure(error, &self.servers);
                    failed.push(format!("{}: {}", host.host, failure.reason));
                    group.set_addresses(endpoint, Err(failure), self.clock.tick());
                }
            }
        }
        match (resolved, local, definite) {
            (true, ..) => Ok(()),
            (false, true, _) => Err(not_resolved(FailureKind::Overloaded, &failed)),
            (false, false, true) => Err(not_resolved(FailureKind::NameResolution, &failed)),
            (false, false, false) => Err(not_resolved(FailureKind::Resolver, &failed)),
        }
    }

    /// The failure when no address of a group can be picked.
    pub(crate) fn no_peer(group: &Group) -> Failure {
        let no_peer = |detail| Failure::new(FailureKind::NoHealthyEndpoint, detail);
        match group.vacancy() {
            Vacancy::NoMembers => no_peer("upstream has no targets"),
            Vacancy::NoneEligible => no_peer("no target belongs to the subset or to a zone that this node uses"),
            Vacancy::NoWeight => no_peer("all targets have weight 0"),
            Vacancy::Unhealthy => no_peer(NO_HEALTHY_TARGETS),
            Vacancy::Unresolved(names) => no_peer(NO_HEALTHY_TARGETS).with_source(format!("cannot resolve {names}")),
        }
    }

    /// The failure of a group in which no name is known to have addresses.
    pub(crate) fn unresolved(group: &Group) -> Failure {
        let failure = Failure::new(FailureKind::NameResolution, NOT_RESOLVED);
        match group.vacancy() {
            Vacancy::Unresolved(names) => failure.with_source(&*names),
            Vacancy::NoMembers | Vacancy::NoneEligible | Vacancy::NoWeight | Vacancy::Unhealthy => failure,
        }
    }
}

const NOT_RESOLVED: &str = "cannot resolve the upstream's name";
const NO_HEALTHY_TARGETS: &str = "upstream has no healthy targets";

fn name_failure(error: DnsError, servers: &str) -> NameFailure {
    NameFailure { shown: error.to_string().into(), reason: error.reason(servers).into() }
}

/// Maximum number of names in one log line.
const NAMES_SHOWN_MAX: usize = 4;

/// The failure to resolve these names, each with its reason.
fn not_resolved(kind: FailureKind, failed: &[String]) -> Failure {
    let mut text = failed.get(..NAMES_SHOWN_MAX).unwrap_or(failed).join("; ");
    if failed.len() > NAMES_SHOWN_MAX {
        text.push_str(&format!("; and {} more", failed.len() - NAMES_SHOWN_MAX));
    }
    Failure::new(kind, NOT_RESOLVED).with_source(text)
}

fn addresses(answer: &Answer) -> Vec<ResolvedAddr> {
    let plain = |resolved: cardinal_net::dns::Resolved<'_>| ResolvedAddr {
        addr: resolved.addr,
        weight: resolved.weight,
        priority: resolved.priority,
        srv_target: resolved.srv_target.cloned(),
        shared_by: resolved.shared_by,
    };
    answer.addresses().map(plain).collect()
}
