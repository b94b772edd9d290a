//! Backends, and the state of their balanced groups, which outlives generations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_balance::{Group, Member};
use cardinal_base::{Rng, SystemRng};
use cardinal_ir::{Backend, Code, Diagnostic, Endpoints, HttpVersion, Id, Ir, Severity, Target};
use cardinal_net::tls::{self, ClientSettings, TlsError};
use cardinal_sdk::{BackendInfo, Services};
use rustls::ClientConfig;
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;

/// A destination, ready to use.
pub struct BackendPlan {
    /// The backend.
    pub backend: Arc<Backend>,
    /// The backend, as filters and logs see it.
    pub info: Arc<BackendInfo>,
    /// Its endpoints.
    pub group: Arc<Group>,
    /// The group's settings, when the backend names a group.
    pub endpoints: Option<Arc<Endpoints>>,
    /// TLS; `None` for clear text.
    pub tls: Option<BackendTls>,
    /// Number of what connections have in common besides address and server name.
    pub settings: u64,
}

/// TLS with a backend.
#[derive(Clone)]
pub struct BackendTls {
    /// With the protocols that the backend asks for.
    pub config: Arc<ClientConfig>,
    /// Only HTTP/1.1 offered: for upgrades, and for plain bytes.
    pub config_h1: Arc<ClientConfig>,
}

impl BackendPlan {
    /// Whether HTTP/2 is spoken without asking.
    pub fn h2_only(&self) -> bool {
        self.backend.http == Some(HttpVersion::H2)
    }
}

/// What outlives generations: balanced groups with health and counters, TLS settings, the node's own certificate.
pub struct Registry {
    state: Mutex<State>,
    next_settings: AtomicU64,
    ticketer: Arc<dyn ProducesTickets>,
}

#[derive(Default)]
struct State {
    groups: HashMap<Id, Arc<Group>>,
    tls: HashMap<String, (u64, BackendTls)>,
    self_signed: Option<Arc<CertifiedKey>>,
}

/// Settings number of HTTP/1.1 in clear text.
const PLAIN_H1: u64 = 1;
/// Settings number of HTTP/2 in clear text.
const PLAIN_H2: u64 = 2;
/// First settings number of TLS.
const FIRST_TLS: u64 = 16;

impl Registry {
    /// An empty one.
    ///
    /// # Errors
    /// When the system gives no randomness for session tickets.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self { state: Mutex::default(), next_settings: AtomicU64::new(FIRST_TLS), ticketer: tls::ticketer()? })
    }

    /// Makes session tickets for all generations.
    pub(super) fn ticketer(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.ticketer)
    }

    /// The certificate of a node that has none.
    pub(super) fn self_signed(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut state = self.lock();
        if let Some(made) = &state.self_signed {
            return Ok(Arc::clone(made));
        }
        let made = tls::self_signed()?;
        state.self_signed = Some(Arc::clone(&made));
        Ok(made)
    }

    /// All groups that the served generation uses.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.lock().groups.values().map(Arc::clone).collect()
    }

    /// The group of a balanced set of endpoints.
    pub fn group(&self, id: &Id) -> Option<Arc<Group>> {
        self.lock().groups.get(id).map(Arc::clone)
    }

    /// Plans all backends. Groups that stay keep their health and counters.
    pub(super) fn backends(&self, ir: &Ir, services: &Services) -> (HashMap<Id, Arc<BackendPlan>>, Vec<Diagnostic>) {
        let (mut plans, mut diagnostics, mut used) = (HashMap::new(), Vec::new(), HashMap::new());
        let mut members = members(ir);
        for (id, spec) in ir.endpoints.iter() {
            let members = members.remove(id).unwrap_or_default();
            used.insert(*id, self.endpoints(*id, spec, members, services));
        }
        for (id, backend) in ir.backends.iter() {
            match self.backend(ir, backend, &mut used, services) {
                Ok(plan) => {
                    plans.insert(*id, Arc::new(plan));
                }
                Err(error) => diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    code: Code::Certificate,
                    origin: backend.origin.clone(),
                    path: String::new(),
                    message: error.to_string(),
                    hint: None,
                }),
            }
        }
        self.lock().groups = used;
        (plans, diagnostics)
    }

    fn endpoints(&self, id: Id, spec: &Arc<Endpoints>, members: Vec<Member>, services: &Services) -> Arc<Group> {
        let now = services.clock.tick();
        if let Some(group) = self.group(&id) {
            group.update(Arc::clone(spec), members, now);
            return group;
        }
        Group::new(id, Arc::clone(spec), members, SystemRng.next_u64(), now)
    }

    fn backend(
        &self,
        ir: &Ir,
        backend: &Arc<Backend>,
        used: &mut HashMap<Id, Arc<Group>>,
        services: &Services,
    ) -> Result<BackendPlan, TlsError> {
        let (group, endpoints, host) = match &backend.target {
            Target::Endpoints { id, .. } => {
                let missing = || TlsError::Config("its endpoints are not in this generation".to_owned());
                let spec = ir.endpoints.get(id).ok_or_else(missing)?;
                let name = spec.origin.name.clone().unwrap_or_default();
                (used.get(id).map(Arc::clone).ok_or_else(missing)?, Some(Arc::clone(spec)), name)
            }
            Target::Host(host) => {
                let id = Id::new_v5(&Id::NAMESPACE_DNS, format!("{}:{}", host.host, host.port).as_bytes());
                let known = used.get(&id).map(Arc::clone).or_else(|| self.group(&id));
                let make = || Group::of_host(id, host, SystemRng.next_u64(), services.clock.tick());
                let group = known.unwrap_or_else(make);
                used.insert(id, Arc::clone(&group));
                (group, None, host.host.clone())
            }
        };
        let (settings, tls) = match &backend.tls {
            None if backend.http == Some(HttpVersion::H2) => (PLAIN_H2, None),
            None => (PLAIN_H1, None),
            Some(_) => {
                let (settings, tls) = self.client_tls(ir, backend, endpoints.as_deref())?;
                (settings, Some(tls))
            }
        };
        let info = BackendInfo {
            id: backend.origin.id,
            name: backend.origin.name.clone(),
            host,
            document: Arc::clone(&backend.document),
        };
        Ok(BackendPlan { backend: Arc::clone(backend), info: Arc::new(info), group, endpoints, tls, settings })
    }

    /// TLS settings, made once for all backends and generations that have the same.
    fn client_tls(
        &self,
        ir: &Ir,
        backend: &Backend,
        endpoints: Option<&Endpoints>,
    ) -> Result<(u64, BackendTls), TlsError> {
        let spec = backend.tls.clone().unwrap_or_default();
        let client = spec.client_certificate.or_else(|| endpoints.and_then(|e| e.client_certificate));
        let pair = client.and_then(|id| ir.certificates.get(&id)?.pairs.first());
        let trusted: Vec<&str> = spec.trusts.iter().filter_map(|id| Some(&*ir.trusts.get(id)?.certificate)).collect();
        let authorities = if trusted.is_empty() {
            ir.node.upstream_authorities.as_deref().map(str::to_owned)
        } else {
            Some(trusted.join("\n"))
        };
        let settings = ClientSettings {
            verify: spec.verify,
            verify_depth: spec.verify_depth,
            authorities,
            client: pair.map(|pair| (pair.chain.clone(), pair.key.clone())),
            alpn: match backend.http {
                Some(HttpVersion::H2) => vec![b"h2".to_vec()],
                Some(HttpVersion::Negotiate) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Some(HttpVersion::H1) => vec![b"http/1.1".to_vec()],
                None => Vec::new(),
            },
        };
        let key = format!("{settings:?}");
        if let Some((number, tls)) = self.lock().tls.get(&key) {
            return Ok((*number, tls.clone()));
        }
        let alpn_h1 = if backend.http.is_some() { vec![b"http/1.1".to_vec()] } else { Vec::new() };
        let config_h1 = tls::client_config(&ClientSettings { alpn: alpn_h1, ..settings.clone() })?;
        let tls = BackendTls { config: tls::client_config(&settings)?, config_h1 };
        // Two numbers: connections that were offered only HTTP/1.1 are kept apart.
        let number = self.next_settings.fetch_add(2, Ordering::Relaxed);
        self.lock().tls.insert(key, (number, tls.clone()));
        Ok((number, tls))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members of each group.
fn members(ir: &Ir) -> HashMap<Id, Vec<Member>> {
    let mut members: HashMap<Id, Vec<Member>> = HashMap::new();
    for (id, endpoint) in ir.endpoint.iter() {
        let member = Member { id: *id, endpoint: Arc::clone(endpoint) };
        members.entry(endpoint.endpoints).or_default().push(member);
    }
    members
}
