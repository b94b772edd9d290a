//! [`Prober`]: the context that all probes share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_balance::{Probe, ProbeOutcome};
use cardinal_base::Tick;
use cardinal_ir::Id;
use cardinal_net::tls::{ClientSettings, TlsError, client_config};
use rustls::ClientConfig;

use super::targets::group_name;
use crate::node::Node;
use crate::plan::{Plan, client_pair};

/// The state shared by all probes.
pub(super) struct Prober {
    pub(super) node: Arc<Node>,
    configs: Mutex<Configs>,
}

/// TLS settings of one generation.
#[derive(Default)]
struct Configs {
    generation: u64,
    made: HashMap<ConfigKey, Option<Arc<ClientConfig>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ConfigKey {
    verify: bool,
    http2: bool,
    /// The client certificate.
    client: Option<Id>,
}

impl Prober {
    pub(super) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node, configs: Mutex::default() })
    }

    pub(super) fn now(&self) -> Tick {
        self.node.services.clock.tick()
    }

    /// The TLS settings of a probe, or the outcome if they cannot be built. Invalid settings are logged once per
    /// generation.
    pub(super) fn tls(&self, probe: &Probe, http2: bool) -> Result<Arc<ClientConfig>, ProbeOutcome> {
        let plan = self.node.plan().ok_or(ProbeOutcome::NotRun)?;
        let settings = &probe.settings;
        let key = ConfigKey { verify: settings.health.active.verify, http2, client: settings.client_certificate };
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.generation != plan.generation {
            *configs = Configs { generation: plan.generation, made: HashMap::new() };
        }
        let make = || {
            client_settings(&plan, key).and_then(|settings| client_config(&settings)).inspect_err(|error| {
                let group = group_name(settings).unwrap_or_default();
                tracing::warn!(upstream = %group, %error, "health probes cannot use TLS");
            })
        };
        if let Some(made) = configs.made.get(&key) {
            return made.clone().ok_or(ProbeOutcome::TcpFailure);
        }
        match make() {
            Err(error) if error.is_transient() => Err(ProbeOutcome::NotRun),
            made => configs.made.entry(key).or_insert(made.ok()).clone().ok_or(ProbeOutcome::TcpFailure),
        }
    }
}

fn client_settings(plan: &Plan, key: ConfigKey) -> Result<ClientSettings, TlsError> {
    let client = key.client.map(|id| client_pair(&plan.ir, plan.secrets(), id)).transpose()?;
    let alpn: &[u8] = if key.http2 { b"h2" } else { b"http/1.1" };
    Ok(ClientSettings {
        verify: key.verify,
        authorities: plan.node.upstream_authorities.as_deref().map(str::to_owned),
        client,
        alpn: vec![alpn.to_vec()],
        ..ClientSettings::default()
    })
}
